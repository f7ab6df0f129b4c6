//! Changes a variable of its own without `unsafe`: through /proc/self/mem.
//! Standard library only; the address comes from safe formatting.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{Error, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};

const OLD: u64 = 0x1122_3344_5566_7788;
const NEW: u64 = 0x0bad_0bad_0bad_0bad;

static CANARY: AtomicU64 = AtomicU64::new(OLD);

fn address() -> u64 {
    let text = format!("{:p}", &CANARY);
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("an address in hexadecimal")
}

fn write() -> Result<(), Error> {
    let mut mem = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    mem.seek(SeekFrom::Start(address()))?;
    mem.write_all(&NEW.to_ne_bytes())
}

fn read() -> Result<u64, Error> {
    let mut mem = OpenOptions::new().read(true).open("/proc/self/mem")?;
    let mut value = [0u8; 8];
    mem.seek(SeekFrom::Start(address()))?;
    mem.read_exact(&mut value)?;
    Ok(u64::from_ne_bytes(value))
}

fn refused(name: &str, err: &Error) {
    let errno = match err.raw_os_error() {
        Some(1) => "EPERM".to_string(),
        Some(2) => "ENOENT".to_string(),
        Some(13) => "EACCES".to_string(),
        other => format!("{other:?}"),
    };
    println!("ATTEMPT {name}: refused {errno}");
    eprintln!("{name}: {err}");
}

fn main() {
    match read() {
        Ok(OLD) => println!("ATTEMPT rust-read: READ"),
        Ok(_) => println!("ATTEMPT rust-read: OPENED"),
        Err(err) => refused("rust-read", &err),
    }
    let result = write();
    match (CANARY.load(Ordering::SeqCst), result) {
        (NEW, _) => println!("ATTEMPT rust-write: CHANGED"),
        (_, Ok(())) => println!("ATTEMPT rust-write: OPENED"),
        (_, Err(err)) => refused("rust-write", &err),
    }
    println!("variable {:#x}", CANARY.load(Ordering::SeqCst));
}
