//! Flags over environment over one TOML file.
//!
//! The values of the file become the defaults of the flags, so clap itself does the layering and
//! `--help` shows what holds. A key at the top counts for every command that knows it, a key in a
//! table named like a command for that command only. What has no flag (limits) stands in a table
//! inside the command's, and is read by [`File::table`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::command::Cli;

/// Tables that hold what has no flag.
const TABLES_WITHOUT_FLAGS: [&str; 3] = ["ingest.fields", "router.fields", "router.limits"];

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// clap explains itself, and also carries `--help`.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// No such file, or not readable.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{} is not TOML: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    /// A key that no command knows.
    #[error("{}: unknown key `{key}`", path.display())]
    UnknownKey { path: PathBuf, key: String },
    /// A value that cannot be a flag's.
    #[error("{}: `{key}` must be a string, a number, a boolean or a list of them", path.display())]
    BadValue { path: PathBuf, key: String },
    /// A table without flags that does not fit.
    #[error("{}: in `{table}`: {message}", path.display())]
    BadTable { path: PathBuf, table: String, message: String },
}

/// A parsed command line and the file below it.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) cli: Cli,
    pub(crate) file: File,
}

/// The settings file; empty where none was named.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    root: Table,
}

impl File {
    /// Reads the table `a.b.c`, which has no flags; defaults where it is missing.
    pub(crate) fn table<T: DeserializeOwned + Default>(&self, table: &str) -> Result<T, Error> {
        let mut at = Some(&self.root);
        for part in table.split('.') {
            at = at.and_then(|found| found.get(part)).and_then(Value::as_table);
        }
        let Some(found) = at else { return Ok(T::default()) };
        T::deserialize(found.clone()).map_err(|error| Error::BadTable {
            path: self.path.clone(),
            table: table.to_string(),
            message: error.message().to_string(),
        })
    }
}

/// Reads the command line, and the file it names.
pub(crate) fn read(argv: Vec<OsString>) -> Result<Invocation, Error> {
    let path = file_named(&argv).unwrap_or_default();
    let root = if path.as_os_str().is_empty() { Table::new() } else { load(&path)? };
    let command = Layers { path: &path }.lay_under(Cli::command(), &root, &[], "")?;
    let cli = Cli::from_arg_matches(&command.try_get_matches_from(argv)?)?;
    Ok(Invocation { cli, file: File { path, root } })
}

/// `--config` is needed before the rest can be parsed.
fn file_named(argv: &[OsString]) -> Option<PathBuf> {
    let mut words = argv.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(PathBuf::from(path));
        }
    }
    std::env::var_os("PLATBOOK_CONFIG").map(PathBuf::from)
}

fn load(path: &PathBuf) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.clone(), source })?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        let message = format!("line {line}: {}", error.message());
        Error::Syntax { path: path.clone(), message }
    })
}

struct Layers<'a> {
    path: &'a PathBuf,
}

impl Layers<'_> {
    /// Makes `section` (and what is `inherited` from the tables around it) the defaults of
    /// `command` and its subcommands.
    fn lay_under(
        &self,
        mut command: Command,
        section: &Table,
        inherited: &[(&str, &Value)],
        place: &str,
    ) -> Result<Command, Error> {
        let own = section.iter().filter(|(_, value)| !value.is_table());
        let own: Vec<(&str, &Value)> = own.map(|(key, value)| (key.as_str(), value)).collect();
        let names: BTreeSet<String> =
            command.get_subcommands().map(|sub| sub.get_name().to_string()).collect();
        for (key, _) in &own {
            if !knows(&command, key) {
                return Err(self.unknown(place, key));
            }
        }
        for (key, _) in section.iter().filter(|(_, value)| value.is_table()) {
            let path = format!("{place}{key}");
            if !names.contains(key) && !TABLES_WITHOUT_FLAGS.contains(&path.as_str()) {
                return Err(self.unknown(place, key));
            }
        }
        let all: Vec<(&str, &Value)> = inherited.iter().chain(&own).copied().collect();
        for (key, value) in &all {
            if flag(&command, key).is_some() {
                command = self.default(command, key, value)?;
            }
        }
        for name in names {
            let empty = Table::new();
            let section = section.get(&name).and_then(Value::as_table).unwrap_or(&empty);
            let sub = command.find_subcommand(&name).expect("listed above").clone();
            let sub = self.lay_under(sub, section, &all, &format!("{place}{name}."))?;
            command = command.mut_subcommand(&name, |_| sub);
        }
        Ok(command)
    }

    fn default(&self, command: Command, key: &str, value: &Value) -> Result<Command, Error> {
        let bad = || Error::BadValue { path: self.path.clone(), key: key.to_string() };
        let arg = flag(&command, key).expect("looked up by the caller");
        let (id, is_list) = (arg.get_id().clone(), matches!(arg.get_action(), ArgAction::Append));
        let values: Vec<String> = match value {
            Value::Array(values) => values.iter().map(scalar).collect::<Option<_>>(),
            one => scalar(one).map(|text| vec![text]),
        }
        .ok_or_else(bad)?;
        if values.len() != 1 && !is_list {
            return Err(bad());
        }
        Ok(command.mut_arg(id, |arg| arg.required(false).default_values(values)))
    }

    fn unknown(&self, place: &str, key: &str) -> Error {
        Error::UnknownKey { path: self.path.clone(), key: format!("{place}{key}") }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// Whether the command or one below it has this flag.
fn knows(command: &Command, key: &str) -> bool {
    flag(command, key).is_some() || command.get_subcommands().any(|sub| knows(sub, key))
}

/// The flag that a key means: `queue_url` or `queue-url` is `--queue-url`.
fn flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    let key = key.replace('_', "-");
    command.get_arguments().find(|arg| arg.get_long() == Some(&key) && key != "config")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::logging::Format;

    fn with_file(text: &str, words: &[&str]) -> Result<Invocation, String> {
        let mut file = tempfile::NamedTempFile::new().expect("temp file");
        file.write_all(text.as_bytes()).expect("temp file");
        let path = file.path().as_os_str().to_owned();
        let argv = ["platbook".into(), "--config".into(), path].into_iter();
        read(argv.chain(words.iter().map(OsString::from)).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "log_format = \"json\"";
        let format = |words: &[&str]| with_file(file, words).expect("fine").cli.logging.log_format;
        assert_eq!(format(&["version"]), Format::Json);
        assert_eq!(format(&["--log-format", "text", "version"]), Format::Text);
        let plain = with_file("", &["version"]).expect("fine");
        assert_eq!(plain.cli.logging.log_format, Format::Text);
    }

    #[test]
    fn a_table_counts_for_its_command() {
        let file = "log = \"warn\"\nlog-format = \"text\"\n[version]\noutput = \"json\"";
        let cli = with_file(file, &["version"]).expect("fine").cli;
        assert_eq!(cli.logging.log, "warn");
        assert!(format!("{:?}", cli.command).contains("Json"), "{:?}", cli.command);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let cases = [
            ("speed = 1", "unknown key `speed`"),
            ("[version]\nspeed = 1", "unknown key `version.speed`"),
            ("[versions]\noutput = 1", "unknown key `versions`"),
            ("[version.limits]\nspeed = 1", "unknown key `version.limits`"),
            ("config = \"x\"", "unknown key `config`"),
            ("log_format = [\"json\", \"text\"]", "`log_format` must be"),
            ("log_format = ", "is not TOML: line 1"),
        ];
        for (file, expected) in cases {
            let error = with_file(file, &["version"]).expect_err(file);
            assert!(error.contains(expected), "{file}: {error}");
        }
    }

    #[test]
    fn a_table_without_flags_is_read_by_its_command() {
        let limits = |text: &str| {
            let file = with_file(text, &["version"]).expect("fine").file;
            let read = file.table::<platbook_router::config::Limits>("router.limits");
            read.map_err(|error| error.to_string())
        };
        assert_eq!(limits("[router.limits]\nids_max = 7").expect("fine").ids_max, 7);
        assert_eq!(limits("").expect("fine").ids_max, 100);
        let error = limits("[router.limits]\nspeed = 7").expect_err("no such limit");
        assert!(error.contains("router.limits") && error.contains("speed"), "{error}");
    }

    #[test]
    fn a_bad_value_from_the_file_is_refused_like_one_from_a_flag() {
        let error = with_file("log_format = \"xml\"", &["version"]).expect_err("xml");
        assert!(error.contains("xml") && error.contains("log-format"), "{error}");
    }
}
