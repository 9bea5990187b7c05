//! What the kernel says about a process and about the machine, read from `/proc`.

use anyhow::Context as _;
use std::path::Path;
use std::time::Duration;

/// Ticks of the CPU times in `/proc`: 100 a second on every Linux that programs can see.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// CPU time, its own and the kernel's for it.
    pub cpu: Duration,
    /// Bytes that it caused to be sent to the disk.
    pub written: u64,
}

/// The memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most there ever was.
    pub peak: u64,
}

/// What a process has used.
pub fn usage(pid: u32) -> anyhow::Result<Usage> {
    let cpu = cpu_of(&read(pid, "stat")?).with_context(|| format!("/proc/{pid}/stat has no CPU times"))?;
    let written = field_of(&read(pid, "io")?, "write_bytes:");
    Ok(Usage { cpu, written: written.with_context(|| format!("/proc/{pid}/io has no write_bytes"))? })
}

/// The CPU time that this process has used.
pub fn own_cpu() -> anyhow::Result<Duration> {
    Ok(usage(std::process::id())?.cpu)
}

/// The memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    const KIB: u64 = 1024;
    let status = read(pid, "status")?;
    let field = |name| {
        let kib = field_of(&status, name).with_context(|| format!("/proc/{pid}/status has no {name}"))?;
        anyhow::Ok(kib * KIB)
    };
    Ok(Memory { resident: field("VmRSS:")?, peak: field("VmHWM:")? })
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("can't read {path}; has the host ended?"))
}

/// The 14th and 15th field of a `stat` file. The second, the name, is in parentheses and may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (ticks()? + ticks()?))
}

/// The number behind a name in a file of `name: number` lines.
fn field_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The machine in words: cores, processor, kernel.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}

/// Bytes of all files below a directory, as long as they say they are.
pub fn files_bytes(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    let entries = std::fs::read_dir(directory).with_context(|| format!("can't look into {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("can't look into {}", directory.display()))?;
        // A file that was just removed is none.
        let Ok(kind) = entry.metadata() else { continue };
        bytes += if kind.is_dir() { files_bytes(&entry.path())? } else { kind.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_come_after_a_name_with_anything_in_it() {
        let stat = "77 (a ) b (c) S 1 77 77 0 -1 4194560 900 0 0 0 250 50 1 2 20 0 9 0 1000 1 1";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("77 (x) S 1"), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let io = "rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(field_of(io, "write_bytes:"), Some(4096));
        assert_eq!(field_of("VmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234));
        assert_eq!(field_of(io, "VmRSS:"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
        usage(std::process::id()).unwrap();
        assert!(machine().contains("cores"));
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("a"), [0; 10]).unwrap();
        std::fs::write(directory.path().join("sub").join("b"), [0; 32]).unwrap();
        assert_eq!(files_bytes(directory.path()).unwrap(), 42);
    }
}
