//! Where figures go: to the screen, to a file, and to the goals and plots in the end.

use crate::record::Record;
use anyhow::Context as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The figures of one run.
#[derive(Debug, Default)]
pub struct Report {
    records: Vec<Record>,
    json: Option<File>,
}

impl Report {
    /// Begins; figures are appended to `json` if it is given.
    pub fn new(json: Option<&Path>) -> anyhow::Result<Report> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.with_context(|| format!("can't write figures to {}; name another file by --json", path.display()))
        };
        Ok(Report { records: Vec::new(), json: json.map(open).transpose()? })
    }

    /// A figure: shown at once and written at once, so that a run that is cut short leaves what it has.
    pub fn add(&mut self, record: Record) -> anyhow::Result<()> {
        println!("  {record}");
        if let Some(file) = &mut self.json {
            let line = serde_json::to_string(&record).context("a figure can't be written as JSON")?;
            writeln!(file, "{line}").context("a figure can't be written to the file")?;
        }
        self.records.push(record);
        Ok(())
    }

    /// All figures so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }
}

/// Reads what `--json` wrote. Of a figure that is there twice the later one counts.
pub fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut records: Vec<Record> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || format!("line {} of {} is no figure", index + 1, path.display());
        let record: Record = serde_json::from_str(line).with_context(wrong)?;
        let same = |other: &Record| {
            (&other.work, other.concurrency, &other.figure) == (&record.work, record.concurrency, &record.figure)
        };
        records.retain(|other| !same(other));
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_appended_and_the_later_one_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("figures.json");
        for value in [1.0, 2.0] {
            let mut report = Report::new(Some(&path)).unwrap();
            report.add(Record::new("W1", 1, "throughput", value, "steps/s")).unwrap();
            report.add(Record::new("W1", 64, "throughput", value, "steps/s")).unwrap();
            assert_eq!(report.records().len(), 2);
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 4);
        let values: Vec<f64> = read(&path).unwrap().iter().map(|record| record.value).collect();
        assert_eq!(values, [2.0, 2.0]);
    }

    #[test]
    fn a_line_that_is_no_figure_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("figures.json");
        std::fs::write(&path, "\n{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 2"));
    }
}
