// How a runtime in Rust drops the memory capability when it starts.
use std::io::Error;

extern "C" {
    fn prctl(option: i32, ...) -> i32;
    fn setrlimit(resource: i32, limit: *const [u64; 2]) -> i32;
}

/// Ok(true): dropped. Ok(false): not installed here.
fn drop_memory_capability() -> Result<bool, Error> {
    const OPTION: i32 = 0x4d454d4a;
    const KEEP: u64 = 1 | 2 | 4 | 8 | 64 | 128;
    let ask = |option: i32, a: u64, b: u64| {
        let r = unsafe { prctl(option, a, b, 0u64, 0u64) };
        if r == 0 { 0 } else { Error::last_os_error().raw_os_error().unwrap_or(0) }
    };
    if ask(OPTION, 0x100, 0) == 22 {
        return Ok(false); // EINVAL
    }
    match ask(38, 1, 0) {
        0 => {} // PR_SET_NO_NEW_PRIVS
        errno => return Err(Error::from_raw_os_error(errno)),
    }
    // A handler of core dumps behind a pipe is started for every limit but 1, and gets what
    // coredump_filter names.
    unsafe { setrlimit(4, &[1, 1]) }; // RLIMIT_CORE
    let _ = std::fs::write("/proc/self/coredump_filter", "0");
    for _ in 0..1000 {
        match ask(OPTION, 0x101, KEEP) {
            114 => return Ok(true), // EALREADY: it is in force
            11 => std::thread::sleep(std::time::Duration::from_millis(1)), // EAGAIN: somebody looks at it
            errno => return Err(Error::from_raw_os_error(errno)),
        }
    }
    Err(Error::from_raw_os_error(11))
}

fn main() {
    let dropped = drop_memory_capability();
    let mem = std::fs::OpenOptions::new().read(true).write(true).open("/proc/self/mem");
    println!("rust: {:?}, memory {}", dropped, if mem.is_ok() { "open" } else { "closed" });
}
