//! The last thing that a process does.
#![allow(unsafe_code, reason = "the C library's way out is the only one that runs no destructors")]

use std::io::Write;

/// Ends the process without the destructors of the C and C++ libraries. Threads of RocksDB and of
/// the runtime may still be at work, for instance where a node stops itself because its disk fails;
/// they would meet what is destroyed, and the process would die by a signal instead of telling how
/// it ended. Whatever has to be kept is synced before anybody is told of it.
pub(crate) fn end(code: u8) -> ! {
    // Where nobody reads any more, the exit code still tells.
    let _ = std::io::stdout().flush();
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(code.into()) }
}
