//! Children that nobody may leave behind.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Set by whoever starts `platbook` as a part of itself: its own process id.
pub(crate) const VARIABLE: &str = "PLATBOOK_PARENT";

/// If this process was started as a part of another one, the kernel kills it together with that
/// one, however that one ends. Linux only, like everything here.
pub(crate) fn die_with_it() {
    let Some(parent) = std::env::var_os(VARIABLE) else { return };
    let watched = set_pdeathsig(Signal::SIGKILL).is_ok();
    // The parent may have ended before the kernel was asked.
    let orphaned = parent.to_str() != Some(&getppid().to_string());
    if !watched || orphaned {
        std::process::exit(1);
    }
}
