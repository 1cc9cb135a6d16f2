//! What the simulated world has instead of the machine's: time and randomness.
//!
//! The Rust library, and every crate that asks the system, gets both through two functions of the C
//! library. This program defines them itself, and its definitions win. Only the thread that runs a
//! simulation is lied to; RocksDB's own threads see the real clock.
#![allow(unsafe_code, reason = "functions of the C library are replaced")]

use std::cell::Cell;
use std::time::Duration;

use libc::{c_int, c_long, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

/// The moment at which every simulation begins, in milliseconds since the Unix epoch.
pub(crate) const BEGINS_MS: u64 = 1_800_000_000_000;
/// The monotonic clock at that moment: not 0, since some subtract from it.
const MONOTONIC_BEGINS: Duration = Duration::from_secs(1_000_000);

#[derive(Clone, Copy)]
struct World {
    randomness: u64,
    elapsed: Duration,
}

thread_local! {
    static WORLD: Cell<Option<World>> = const { Cell::new(None) };
}

/// From now on this thread lives in the world of `seed`, at its beginning.
pub(crate) fn enter(seed: u64) {
    WORLD.set(Some(World { randomness: seed, elapsed: Duration::ZERO }));
}

/// Time passes; it never goes back.
pub(crate) fn set_elapsed(elapsed: Duration) {
    let world = WORLD.get().expect("a simulation runs on this thread");
    assert!(elapsed >= world.elapsed, "time does not go back");
    WORLD.set(Some(World { elapsed, ..world }));
}

/// Milliseconds since the simulation began.
pub(crate) fn now_ms() -> u64 {
    WORLD.get().map_or(0, |world| world.elapsed.as_millis() as u64)
}

/// Randomness of this world, as everything in it draws it (SplitMix64).
fn draw(world: &mut World) -> u64 {
    world.randomness = world.randomness.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (world.randomness ^ (world.randomness >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// `getrandom(2)`.
///
/// # Safety
/// As in C: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(
    buffer: *mut c_void,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    let Some(mut world) = WORLD.get() else {
        // SAFETY: the caller's own promise is passed on.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) } as ssize_t;
    };
    // SAFETY: the caller promises room for `length` bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&draw(&mut world).to_le_bytes()[..chunk.len()]);
    }
    WORLD.set(Some(world));
    length as ssize_t
}

/// `clock_gettime(2)`.
///
/// # Safety
/// As in C: `found` points to a `timespec`, or is null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, found: *mut timespec) -> c_int {
    let begins = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Duration::from_millis(BEGINS_MS),
        _ => MONOTONIC_BEGINS,
    };
    match WORLD.get() {
        Some(world) if !found.is_null() => {
            let now = begins + world.elapsed;
            let (tv_sec, tv_nsec) = (now.as_secs() as i64, c_long::from(now.subsec_nanos()));
            // SAFETY: the caller promises that it points to a `timespec`.
            unsafe { found.write(timespec { tv_sec, tv_nsec }) };
            0
        }
        // SAFETY: the caller's own promise is passed on.
        _ => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, found) as c_int },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    use std::time::{Instant, SystemTime};

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "it is the clock that is tested")]
    fn live(seed: u64) -> (u64, Duration, Duration) {
        let life = std::thread::spawn(move || {
            enter(seed);
            let begun = Instant::now();
            set_elapsed(Duration::from_secs(7));
            let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let hash = RandomState::new().hash_one(1);
            (hash, begun.elapsed(), wall.expect("after 1970"))
        });
        life.join().expect("no panic")
    }

    #[test]
    fn a_seed_decides_what_is_random_and_the_clock_stands_still_between_steps() {
        let (hash, elapsed, wall) = live(1);
        assert_eq!(elapsed, Duration::from_secs(7));
        assert_eq!(wall, Duration::from_millis(BEGINS_MS + 7_000));
        assert_eq!(live(1).0, hash);
        assert_ne!(live(2).0, hash);
    }

    #[test]
    fn other_threads_see_the_real_world() {
        let begun = Instant::now();
        while begun.elapsed() == Duration::ZERO {
            std::hint::spin_loop();
        }
        assert_ne!(RandomState::new().hash_one(1), live(1).0);
    }
}
