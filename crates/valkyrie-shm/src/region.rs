//! Making shared memory, and checking what a peer hands over as such.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate,
    memfd_create,
};
use rustix::io::Errno;

use crate::error::RegionError;
use crate::layout::RingBytes;
use crate::mapping::Mapping;

/// `f_type` of the file system that ordinary memfds live on.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Seals without which the peer could take the memory away.
const NEEDED: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);
/// `F_SEAL_EXEC`, which newer kernels set by themselves and which does no harm.
const EXEC: SealFlags = SealFlags::from_bits_retain(0x20);

/// Memory that can be shared: a memfd of a fixed size, with its seals.
#[derive(Debug)]
pub struct Region {
    file: OwnedFd,
    mapping: Arc<Mapping>,
    ring: RingBytes,
}

impl Region {
    /// Makes memory for two rings of `ring` bytes. Pages are taken only when they are used.
    ///
    /// # Errors
    /// [`RegionError::Io`] when the system has no memory or descriptor left.
    pub fn new(ring: RingBytes) -> Result<Self, RegionError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("valkyrie-shm", flags).map_err(io::Error::from)?;
        ftruncate(&file, ring.region_bytes() as u64).map_err(io::Error::from)?;
        fcntl_add_seals(&file, NEEDED).map_err(io::Error::from)?;
        Self::open(file, ring)
    }

    /// Takes what a peer handed over, after checking that it is safe to touch.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn open(file: OwnedFd, ring: RingBytes) -> Result<Self, RegionError> {
        check(file.as_fd(), ring)?;
        let mapping = Mapping::new(file.as_fd(), ring.region_bytes())?;
        Ok(Self {
            file,
            mapping: Arc::new(mapping),
            ring,
        })
    }

    pub(crate) const fn ring(&self) -> RingBytes {
        self.ring
    }

    pub(crate) const fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether every byte of the file will be there whatever the peer does with it.
fn check(file: BorrowedFd<'_>, ring: RingBytes) -> Result<(), RegionError> {
    // Only files in memory have seals at all.
    let seals = match fcntl_get_seals(file) {
        Ok(seals) => seals,
        Err(Errno::INVAL) => return Err(RegionError::NotMemory),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    // Seals against writing would only be found out by the first write.
    if !seals.contains(NEEDED) || !NEEDED.union(EXEC).contains(seals) {
        return Err(RegionError::Seals {
            found: seals.bits(),
        });
    }
    // A hole that the peer punches is filled again at the next touch. Ordinary pages always can
    // be; huge ones come from a pool that may be empty, and that ends in SIGBUS.
    let system = fstatfs(file).map_err(io::Error::from)?;
    if !u64::try_from(system.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC) {
        return Err(RegionError::HugePages);
    }
    let found = fstat(file).map_err(io::Error::from)?.st_size;
    let found = u64::try_from(found).unwrap_or_default();
    let needed = ring.region_bytes() as u64;
    if found != needed {
        return Err(RegionError::Size { found, needed });
    }
    Ok(())
}
