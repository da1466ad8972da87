//! What each address may send: in the kernel, or else in the server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use yggdrasil_service::{Barrier, SourceLimit};
use yggdrasil_xdp::{Limiter, Mode, Policy, XdpConfig, XdpError};

use crate::args::{FloodArgs, ModeArg};
use crate::failure::Failure;

/// Who limits.
pub(crate) struct Flood {
    pub(crate) sources: SourceLimit,
    kernel: Option<Arc<Kernel>>,
    /// Why it is not the kernel; empty where nobody was to limit.
    refusal: String,
}

impl Flood {
    /// Limits as the arguments say, where the kernel does it. Where it refuses, the server will.
    pub(crate) fn limit(args: &FloodArgs, listen: &[SocketAddr]) -> Result<Self, Failure> {
        let Some(interface) = &args.xdp else {
            return Ok(Self {
                sources: SourceLimit::None,
                kernel: None,
                refusal: String::new(),
            });
        };
        let config = XdpConfig {
            mode: args.xdp_mode.map(|mode| match mode {
                ModeArg::Skb => Mode::Skb,
                ModeArg::Driver => Mode::Driver,
            }),
            ..XdpConfig::new(interface, policy(args, listen)?)
        };
        let limiter = match Limiter::attach(&config) {
            Ok(limiter) => limiter,
            Err(error) if error.is_refusal() => return Ok(Self::in_the_server(args, &error)),
            Err(error) => return Err(error.into()),
        };
        for source in &args.xdp_ban {
            limiter.ban(*source)?;
        }
        let kernel = Arc::new(Kernel(limiter));
        Ok(Self {
            sources: SourceLimit::Before(Arc::clone(&kernel) as _),
            kernel: Some(kernel),
            refusal: String::new(),
        })
    }

    fn in_the_server(args: &FloodArgs, error: &XdpError) -> Self {
        Self {
            sources: SourceLimit::Here {
                limit: args.xdp_rate.0,
                bans: args.xdp_ban.clone(),
            },
            kernel: None,
            refusal: format!("xdp: off, the server limits instead, because {error}\n"),
        }
    }

    /// Tells the kernel the ports that a server has got, and gives a line about who limits.
    pub(crate) fn started(
        &self,
        args: &FloodArgs,
        addresses: &[SocketAddr],
    ) -> Result<String, Failure> {
        let Some(kernel) = &self.kernel else {
            return Ok(self.refusal.clone());
        };
        let policy = policy(args, addresses)?;
        kernel.0.set_policy(&policy)?;
        let ports: Vec<_> = policy.ports().iter().map(u16::to_string).collect();
        Ok(format!(
            "xdp: {}, limits what each address sends to port {} on {}\n",
            kernel.mode(),
            ports.join(", "),
            args.xdp.as_deref().unwrap_or_default()
        ))
    }
}

/// The limit with its ports: those that were named, or else those that are listened on.
fn policy(args: &FloodArgs, listen: &[SocketAddr]) -> Result<Policy, XdpError> {
    let mut ports = args.xdp_ports.clone();
    if ports.is_empty() {
        ports = listen.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
    }
    Policy::new(args.xdp_rate.0, &ports)
}

/// The limiter in front of the server.
#[derive(Debug)]
struct Kernel(Limiter);

impl Barrier for Kernel {
    fn mode(&self) -> &'static str {
        self.0.mode().name()
    }

    fn counters(&self) -> Result<Vec<(&'static str, u64)>, String> {
        let counters = self.0.counters().map_err(|error| error.to_string())?;
        Ok(vec![
            ("xdp_passed", counters.passed),
            ("xdp_limited", counters.limited),
            ("xdp_banned", counters.banned),
            ("xdp_not_ours", counters.not_ours),
            ("xdp_contended", counters.contended),
        ])
    }

    fn ban(&self, source: IpAddr) -> Result<(), String> {
        self.0.ban(source).map_err(|error| error.to_string())
    }

    fn unban(&self, source: IpAddr) -> Result<bool, String> {
        self.0.unban(source).map_err(|error| error.to_string())
    }

    fn bans(&self) -> Result<Vec<IpAddr>, String> {
        self.0.bans().map_err(|error| error.to_string())
    }
}
