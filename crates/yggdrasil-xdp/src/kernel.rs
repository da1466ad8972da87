//! The program in the kernel: loading it, and its maps.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::config::{Mode, PORTS_MAX, Policy, XdpConfig};
use crate::error::XdpError;
use crate::limiter::Counters;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/limiter.bpf.o"));

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;

/// `struct policy` of the program: emission, burst, whether it limits, what time it is, how many
/// ports, and up to four ports in each of the others, the first one lowest.
pub(crate) type PolicyWords = [u64; 5 + PORTS_MAX / 4];
/// `struct address`: those of IPv6, and those of IPv4 as they are written there.
pub(crate) type Address = [u8; 16];

/// The program, its maps and what it is attached by. Closing the link detaches it.
pub(crate) struct Program {
    pub(crate) loaded: Loaded,
    _link: FdLink,
}

impl Program {
    pub(crate) fn attach(config: &XdpConfig) -> Result<(Self, Mode), XdpError> {
        let mut loaded = Loaded::load(config.sources)?;
        loaded.set_policy(&words(&config.policy, 0))?;
        let mut attach = |mode| loaded.attach(&config.interface, mode);
        let (link, mode) = match config.mode {
            Some(mode) => (attach(mode)?, mode),
            None => first_that_works(attach)?,
        };
        let program = Self {
            loaded,
            _link: link,
        };
        Ok((program, mode))
    }

    pub(crate) fn counters(&self) -> Result<Counters, XdpError> {
        self.loaded.counters()
    }

    pub(crate) fn ban(&mut self, source: IpAddr) -> Result<(), XdpError> {
        let banned = self.loaded.bans.insert(address(source), 1, 0);
        banned.map_err(|error| refused("ban another source", &error))
    }

    pub(crate) fn unban(&mut self, source: IpAddr) -> Result<bool, XdpError> {
        match self.loaded.bans.remove(&address(source)) {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(ENOENT) => Ok(false),
            Err(error) => Err(refused("take back a ban", &error)),
        }
    }

    pub(crate) fn bans(&self) -> Result<Vec<IpAddr>, XdpError> {
        let keys = self.loaded.bans.keys();
        keys.map(|key| {
            let key = key.map_err(|error| refused("list bans", &error))?;
            Ok(IpAddr::from(Ipv6Addr::from(key)).to_canonical())
        })
        .collect()
    }

    pub(crate) fn set_policy(&mut self, policy: &Policy) -> Result<(), XdpError> {
        self.loaded.set_policy(&words(policy, 0))
    }
}

/// By the driver, or else by the kernel. What is wrong with both is wrong with the latter.
fn first_that_works<T>(
    mut attach: impl FnMut(Mode) -> Result<T, XdpError>,
) -> Result<(T, Mode), XdpError> {
    match attach(Mode::Driver) {
        Ok(attached) => Ok((attached, Mode::Driver)),
        Err(_) => Ok((attach(Mode::Skb)?, Mode::Skb)),
    }
}

/// The program and its maps, attached to nothing.
pub(crate) struct Loaded {
    pub(crate) ebpf: Ebpf,
    policies: Array<MapData, PolicyWords>,
    pub(crate) bans: HashMap<MapData, Address, u8>,
    counters: PerCpuArray<MapData, u64>,
}

impl Loaded {
    /// Gives the program to the kernel, which proves that it ends and stays inside of packets.
    pub(crate) fn load(sources: u32) -> Result<Self, XdpError> {
        let wrong = |error: &EbpfError| refused("load the program", error);
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("sources", sources)
            .load(OBJECT)
            .map_err(|error| wrong(&error))?;
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| missing(name));
        let (policies, bans, counters) = (map("policies")?, map("bans")?, map("counters")?);
        let mut loaded = Self {
            ebpf,
            policies: typed(policies)?,
            bans: typed(bans)?,
            counters: typed(counters)?,
        };
        let program = loaded.program()?;
        let verified = program.load();
        verified.map_err(|error| refused("load the program", &error))?;
        Ok(loaded)
    }

    fn program(&mut self) -> Result<&mut Xdp, XdpError> {
        let program = self.ebpf.program_mut("limiter");
        let program = program.ok_or_else(|| missing("limiter"))?;
        program
            .try_into()
            .map_err(|error: ProgramError| refused("load the program", &error))
    }

    pub(crate) fn set_policy(&mut self, words: &PolicyWords) -> Result<(), XdpError> {
        let set = self.policies.set(0, words, 0);
        set.map_err(|error| refused("take the policy", &error))
    }

    pub(crate) fn counters(&self) -> Result<Counters, XdpError> {
        let sum = |index: u32| {
            let values = self.counters.get(&index, 0);
            let values = values.map_err(|error| refused("give the counters", &error))?;
            Ok(values.iter().sum())
        };
        Ok(Counters {
            passed: sum(0)?,
            limited: sum(1)?,
            banned: sum(2)?,
            not_ours: sum(3)?,
            contended: sum(4)?,
        })
    }

    fn attach(&mut self, interface: &str, mode: Mode) -> Result<FdLink, XdpError> {
        const WHAT: &str = "attach the program";
        if interface.is_empty() || interface.contains('\0') {
            return Err(XdpError::Interface(interface.to_owned()));
        }
        let flags = match mode {
            Mode::Skb => XdpMode::Skb,
            Mode::Driver => XdpMode::Driver,
        };
        let program = self.program()?;
        let id = program
            .attach(interface, flags)
            .map_err(|error| match error {
                ProgramError::UnknownInterface { name } => XdpError::Interface(name),
                error => match os_error(&error) {
                    Some(EBUSY | EEXIST) => XdpError::Busy(interface.to_owned()),
                    _ => refused(WHAT, &error),
                },
            })?;
        let link = program.take_link(id);
        let link = link.map_err(|error| refused(WHAT, &error))?;
        // An old kernel has only attachments that outlive their process, and those are not wanted.
        FdLink::try_from(link).map_err(|_| XdpError::Kernel {
            what: WHAT,
            cause: "it has no links, which Linux has from 5.9 on".to_owned(),
        })
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(map: Map) -> Result<T, XdpError> {
    T::try_from(map).map_err(|error| refused("load the program", &error))
}

/// A policy as the program reads it. `fixed_now` is what time it is, and 0 the clock of the kernel.
pub(crate) fn words(policy: &Policy, fixed_now: u64) -> PolicyWords {
    let (emission, burst) = policy.limit().map_or((0, 0), |limit| {
        (limit.emission_ns(), u64::from(limit.burst()))
    });
    let head = [
        emission,
        burst,
        u64::from(policy.limit().is_some()),
        fixed_now,
        policy.ports().len() as u64,
    ];
    let mut words = [0; 5 + PORTS_MAX / 4];
    let (first, ports) = words.split_at_mut(head.len());
    first.copy_from_slice(&head);
    for (word, four) in ports.iter_mut().zip(policy.ports().chunks(4)) {
        for (place, port) in four.iter().enumerate() {
            *word |= u64::from(*port) << (16 * place);
        }
    }
    words
}

pub(crate) fn address(source: IpAddr) -> Address {
    match source.to_canonical() {
        IpAddr::V4(source) => source.to_ipv6_mapped().octets(),
        IpAddr::V6(source) => source.octets(),
    }
}

fn missing(name: &str) -> XdpError {
    XdpError::Kernel {
        what: "load the program",
        cause: format!("'{name}' is not in it"),
    }
}

fn refused(what: &'static str, error: &(dyn Error + 'static)) -> XdpError {
    if os_error(error) == Some(EPERM) {
        return XdpError::Permission { what };
    }
    // The verifier's reasons would be pages.
    let mut causes: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().to_owned();
        if !causes.iter().any(|cause| cause.contains(&line)) {
            causes.push(line);
        }
        next = error.source();
    }
    XdpError::Kernel {
        what,
        cause: causes.join(": "),
    }
}

/// What the system said, wherever in an error it is.
fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}
