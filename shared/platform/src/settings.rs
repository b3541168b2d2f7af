use std::{cell::RefCell, env, ffi::OsString, fmt, ops::RangeInclusive, str::FromStr};

type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads settings by name, and remembers which of them are absent and which cannot be read.
///
/// There is one only while [`Settings::from_env`] or [`Settings::from_lookup`] reads, and these
/// name everything that is wrong at once: a function that is started without its environment tells
/// all that it lacks, and not one variable at each try. So no getter fails. It returns a default
/// instead, with which nothing is ever done.
pub struct Settings<'a> {
    lookup: Lookup<'a>,
    problems: RefCell<SettingsError>,
}

/// All settings that are absent or cannot be read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SettingsError {
    absent: Vec<&'static str>,
    unreadable: Vec<Unreadable>,
}

#[derive(Clone, PartialEq, Eq)]
struct Unreadable {
    name: &'static str,
    value: String,
    problem: String,
}

impl Settings<'_> {
    /// Reads the environment of this process. Only `main` calls this.
    pub fn from_env<T>(read: impl FnOnce(&Settings<'_>) -> T) -> Result<T, SettingsError> {
        Self::from_lookup(&|name| env::var_os(name), read)
    }

    /// Reads what the lookup finds.
    pub fn from_lookup<T>(
        lookup: Lookup<'_>,
        read: impl FnOnce(&Settings<'_>) -> T,
    ) -> Result<T, SettingsError> {
        let settings = Settings { lookup, problems: RefCell::default() };
        let value = read(&settings);
        let problems = settings.problems.into_inner();
        if problems == SettingsError::default() { Ok(value) } else { Err(problems) }
    }

    /// A setting that has no default. If it is absent, it is empty.
    pub fn required(&self, name: &'static str) -> String {
        self.optional(name).unwrap_or_else(|| {
            let mut problems = self.problems.borrow_mut();
            if !problems.names(name) {
                problems.absent.push(name);
            }
            String::new()
        })
    }

    /// A setting that may be absent. An empty one counts as absent, because a template cannot leave
    /// a variable out by condition as easily as it can set it to nothing.
    pub fn optional<T>(&self, name: &'static str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let value = (self.lookup)(name).filter(|value| !value.is_empty())?;
        match value.into_string() {
            Ok(value) => value.parse().map_err(|error| self.refuse(name, value, error)).ok(),
            Err(value) => {
                self.refuse(name, value.to_string_lossy().into_owned(), "not UTF-8");
                None
            }
        }
    }

    /// A number with a default, which must lie in `range` because outside it AWS refuses the calls
    /// that are made with it, or nothing would ever be done.
    pub fn number<T>(&self, name: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        let number = self.optional(name).unwrap_or(default);
        if !range.contains(&number) {
            let (start, end) = range.into_inner();
            let problem = format!("expected a number from {start} to {end}");
            self.refuse(name, number.to_string(), problem);
        }
        number
    }

    /// Remembers that a setting cannot be used as it is. Of one that is absent, this is known.
    pub fn refuse(&self, name: &'static str, value: String, problem: impl fmt::Display) {
        let mut problems = self.problems.borrow_mut();
        if !problems.names(name) {
            problems.unreadable.push(Unreadable { name, value, problem: problem.to_string() });
        }
    }
}

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

impl SettingsError {
    fn names(&self, name: &str) -> bool {
        self.absent.contains(&name) || self.unreadable.iter().any(|other| other.name == name)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentences = Vec::new();
        if !self.absent.is_empty() {
            sentences.push(format!(
                "environment variables that are not set: {} (the template sets them; to run a \
                 function by itself, see infra/docs/development.md)",
                self.absent.join(", ")
            ));
        }
        for Unreadable { name, value, problem } in &self.unreadable {
            sentences.push(format!("environment variable {name} is {value:?}: {problem}"));
        }
        f.write_str(&sentences.join("; "))
    }
}

/// The same as `Display`, because Rust prints what `main` returns in this way.
impl fmt::Debug for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SettingsError {}

/// A lookup in these settings only.
#[cfg(test)]
pub(crate) fn lookup_in(settings: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    move |name| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Option<&'static str>) -> Result<u32, SettingsError> {
        let settings = value.map(|value| ("LIMIT", value));
        let lookup = lookup_in(settings.as_slice());
        Settings::from_lookup(&lookup, |settings| settings.number("LIMIT", 7, 1..=9))
    }

    #[test]
    fn an_absent_or_empty_setting_has_its_default() {
        assert_eq!(read(None), Ok(7));
        assert_eq!(read(Some("")), Ok(7));
        assert_eq!(read(Some("9")), Ok(9));
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_named_with_its_value() {
        let error = |value| {
            let error = read(Some(value)).expect_err("refused");
            assert_eq!(format!("{error:?}"), error.to_string(), "as `main` prints it");
            error.to_string()
        };
        assert_eq!(
            error("ten"),
            r#"environment variable LIMIT is "ten": invalid digit found in string"#
        );
        assert_eq!(
            error("10"),
            r#"environment variable LIMIT is "10": expected a number from 1 to 9"#
        );
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once_and_once() {
        let lookup =
            lookup_in(&[("WORK_QUEUE_URL", ""), ("LIMIT", "0"), ("ARCHIVE_BUCKET", "archive")]);
        let error = Settings::from_lookup(&lookup, |settings| {
            settings.required("WORK_QUEUE_URL");
            settings.number("LIMIT", 7, 1..=9);
            settings.required("ARCHIVE_BUCKET");
            settings.required("TIME_ZONE");
            settings.required("WORK_QUEUE_URL");
            settings.refuse("TIME_ZONE", String::new(), "no time zone has an empty name");
        });
        assert_eq!(
            error.expect_err("refused").to_string(),
            "environment variables that are not set: WORK_QUEUE_URL, TIME_ZONE (the template sets \
             them; to run a function by itself, see infra/docs/development.md); \
             environment variable LIMIT is \"0\": expected a number from 1 to 9"
        );
    }
}
