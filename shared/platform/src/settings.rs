use std::{env, ffi::OsString, fmt, str::FromStr};

/// Reads settings by name and tells an absent one from one that cannot be read.
pub struct Settings<'a> {
    lookup: &'a dyn Fn(&str) -> Option<OsString>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("environment variable {name} is not set")]
    Absent { name: &'static str },
    #[error(
        "environment variables {} are not set; the template sets them, and to run a function by \
         itself they can be given with `--env-file` (see infra/docs/development.md)",
        names.join(", ")
    )]
    AllAbsent { names: Vec<&'static str> },
    #[error("environment variable {name} is {value:?}: {problem}")]
    Unparseable { name: &'static str, value: String, problem: String },
}

impl Settings<'static> {
    /// The environment of this process. Only `main` calls this.
    pub fn from_env() -> Self {
        Self { lookup: &|name| env::var_os(name) }
    }
}

impl<'a> Settings<'a> {
    pub fn from_lookup(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { lookup }
    }

    /// Checks that none of these is absent, so that a function which is started without its
    /// environment names all that it lacks at once, and not one at each try.
    pub fn require(&self, names: &[&'static str]) -> Result<(), SettingError> {
        let absent = |name: &&str| (self.lookup)(name).is_none_or(|value| value.is_empty());
        let names: Vec<_> = names.iter().copied().filter(|name| absent(name)).collect();
        if names.is_empty() { Ok(()) } else { Err(SettingError::AllAbsent { names }) }
    }

    /// A setting that has no default.
    pub fn required<T>(&self, name: &'static str) -> Result<T, SettingError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.optional(name)?.ok_or(SettingError::Absent { name })
    }

    /// A setting that may be absent. An empty one counts as absent, because a template cannot leave
    /// a variable out by condition as easily as it can set it to nothing.
    pub fn optional<T>(&self, name: &'static str) -> Result<Option<T>, SettingError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let unparseable = |value: String, problem: String| {
            Err(SettingError::Unparseable { name, value, problem })
        };
        let Some(value) = (self.lookup)(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        match value.into_string() {
            Ok(value) => match value.parse() {
                Ok(parsed) => Ok(Some(parsed)),
                Err(problem) => unparseable(value, T::Err::to_string(&problem)),
            },
            Err(value) => unparseable(value.to_string_lossy().into_owned(), "not UTF-8".to_owned()),
        }
    }

    /// A number with a default, which must lie in `range` because outside it AWS refuses the calls
    /// that are made with it, or nothing would ever be done.
    pub fn number<T>(
        &self,
        name: &'static str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, SettingError>
    where
        T: FromStr<Err: fmt::Display> + PartialOrd + fmt::Display,
    {
        let number = self.optional(name)?.unwrap_or(default);
        if range.contains(&number) {
            return Ok(number);
        }
        Err(SettingError::Unparseable {
            name,
            value: number.to_string(),
            problem: format!("expected a number from {} to {}", range.start(), range.end()),
        })
    }
}

impl fmt::Debug for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// A lookup in these settings only.
#[cfg(test)]
pub(crate) fn lookup_in(settings: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    move |name| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Option<&'static str>) -> Result<u32, SettingError> {
        let settings = value.map(|value| ("LIMIT", value));
        Settings::from_lookup(&lookup_in(settings.as_slice())).number("LIMIT", 7, 1..=9)
    }

    #[test]
    fn an_absent_or_empty_setting_has_its_default() {
        assert_eq!(read(None), Ok(7));
        assert_eq!(read(Some("")), Ok(7));
    }

    #[test]
    fn a_setting_that_cannot_be_read_is_named_with_its_value() {
        let error = |value| read(Some(value)).expect_err("refused").to_string();
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
    fn all_settings_that_are_absent_are_named_at_once() {
        let given = [("AWS_REGION", "eu-west-1"), ("WORK_QUEUE_URL", "")];
        let lookup = lookup_in(&given);
        let settings = Settings::from_lookup(&lookup);
        assert_eq!(settings.require(&["AWS_REGION"]), Ok(()));
        let error = settings.require(&["AWS_REGION", "WORK_QUEUE_URL", "STATE_MACHINE_ARN"]);
        let error = error.expect_err("refused").to_string();
        let names = "environment variables WORK_QUEUE_URL, STATE_MACHINE_ARN are not set; ";
        assert!(error.starts_with(names), "{error}");
    }

    #[test]
    fn a_required_setting_that_is_absent_is_named() {
        let settings = Settings::from_lookup(&|_| None);
        let error = settings.required::<String>("WORK_QUEUE_URL").expect_err("refused");
        assert_eq!(error.to_string(), "environment variable WORK_QUEUE_URL is not set");
    }
}
