//! The same in Rust, without a line of unsafe code: the compiler proves that
//! nobody writes to the variable, and the kernel writes to it all the same.
//! Exit status: 0 changed, 1 refused and unchanged.
#![forbid(unsafe_code)]
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};

static BALANCE: AtomicU64 = AtomicU64::new(42);

fn forge() -> std::io::Result<()> {
    let mut mem = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    mem.seek(SeekFrom::Start(&BALANCE as *const AtomicU64 as u64))?;
    mem.write_all(&1337u64.to_ne_bytes())
}

fn main() {
    println!("  Rust:   the variable holds {}", BALANCE.load(Ordering::SeqCst));
    match forge() {
        Ok(()) => println!("          wrote 1337 into /proc/self/mem"),
        Err(e) => println!("          opening /proc/self/mem: {e}"),
    }
    let now = BALANCE.load(Ordering::SeqCst);
    println!("          the variable holds {now}");
    std::process::exit((now == 42) as i32);
}
