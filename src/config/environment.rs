//! `${NAME}` in texts: what the environment puts into a configuration.

/// Looks up a variable of the environment.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Looks up a variable of this process's own environment: the one reader of it.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Why a variable could not be filled in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// What is written is no variable.
    #[error(
        "`${{` is not followed by the name of a variable and `}}`: write ${{NAME}}, or $${{ for the characters themselves"
    )]
    Unreadable,
    /// There is no such variable here. Another process may have it.
    #[error("the environment variable {0} is missing or empty: set it before hookonce starts")]
    Missing(String),
}

/// `text` with every `${NAME}` replaced by that variable, and `$${` by `${`.
///
/// # Errors
/// What is wrong, once per place. A missing or empty variable is an error: a secret that is silently
/// empty would be worse than a program that does not start.
pub(super) fn fill_in(text: &str, environment: &Environment<'_>) -> Result<String, Vec<Problem>> {
    let mut filled = String::new();
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
            problems.push(Problem::Unreadable);
            rest = after;
            continue;
        };
        match environment(name).filter(|value| !value.is_empty()) {
            Some(value) => filled.push_str(&value),
            None => problems.push(Problem::Missing(name.to_owned())),
        }
        rest = after;
    }
    filled.push_str(rest);
    if problems.is_empty() { Ok(filled) } else { Err(problems) }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("a.example".to_owned()),
            "ODD" => Some("${HOST}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in_once() {
        for (text, filled) in [
            ("plain $5 {x}", "plain $5 {x}"),
            ("https://${HOST}/${HOST}", "https://a.example/a.example"),
            ("$${HOST}", "${HOST}"),
            ("${ODD}", "${HOST}"),
        ] {
            assert_eq!(fill_in(text, &environment).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn every_problem_in_a_text_is_told() {
        for (text, problems) in [
            ("${EMPTY}", 1),
            ("${MISSING} ${HOST} ${MISSING_TOO}", 2),
            ("${", 1),
            ("${HOST", 1),
            ("${a-b} ${}", 2),
            ("${HOST:-x}", 1),
        ] {
            let found = fill_in(text, &environment).map_err(|found| found.len());
            assert_eq!(found, Err(problems), "{text}");
        }
    }
}
