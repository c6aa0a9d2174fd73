//! What a command has to know of a server to ask it. It is read without the rest of the file, whose
//! variables are the server's and often none of the caller's.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    DEFAULT_DATA_DIR, DEFAULT_FILE, Environment, Mistakes, mistakes::Findings, raw, read,
    section::Section, server, unreadable,
};
use crate::{secret::Secret, tls::Pair};

/// How the server of a configuration is asked.
#[derive(Clone, Debug)]
pub struct Access {
    /// Where its dashboard, its API and its health checks are.
    pub admin_listen: SocketAddr,
    /// The certificate it shows there. The files have not been looked at.
    pub admin_tls: Option<Pair>,
    /// What it asks for there. A mistake in it matters to nobody who has the token from elsewhere, or
    /// asks for what needs none.
    pub admin_token: Result<Option<Secret>, Mistakes>,
    /// The folder of its local files.
    pub data_dir: PathBuf,
}

impl Access {
    /// Reads it from the file at `path`, or from [`DEFAULT_FILE`], as [`Config::load`](super::Config::load)
    /// finds them. Nothing else of the file is looked at, and no other variable asked for.
    ///
    /// # Errors
    /// Every mistake in these keys, but for one in the token.
    pub fn load(path: Option<&Path>, environment: &Environment<'_>) -> Result<Self, Mistakes> {
        let file = path.unwrap_or(Path::new(DEFAULT_FILE));
        match read(file) {
            Ok(text) => Self::parse(&text, file, environment),
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                let access = Self::parse("", file, environment)?;
                Ok(Self { data_dir: DEFAULT_DATA_DIR.into(), ..access })
            }
            Err(error) => Err(unreadable(file, &error)),
        }
    }

    fn parse(text: &str, file: &Path, environment: &Environment<'_>) -> Result<Self, Mistakes> {
        const PLACE: &[&str] = &["server.admin_listen", "server.admin_tls", "server.data_dir"];
        let mut found = Findings::new(file);
        let Some(root) = raw::parse_keys(text, PLACE, environment, &mut found) else {
            return Err(found.into_mistakes());
        };
        let section = Section::top(&root, "server", &mut found);
        let folder = file.parent().unwrap_or(Path::new(""));
        let access = Self {
            admin_listen: server::address(&section, "admin_listen", &mut found),
            admin_tls: server::pair(&section, "admin_tls", folder, &mut found),
            admin_token: token(text, file, environment),
            data_dir: section.text("data_dir", &mut found).unwrap_or_default().into(),
        };
        found.finish().map(|_| access)
    }
}

fn token(
    text: &str,
    file: &Path,
    environment: &Environment<'_>,
) -> Result<Option<Secret>, Mistakes> {
    let mut found = Findings::new(file);
    let root = raw::parse_keys(text, &["server.admin_token"], environment, &mut found);
    let token = root.and_then(|root| {
        Section::top(&root, "server", &mut found).text("admin_token", &mut found).map(Secret::new)
    });
    found.finish().map(|_| token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Access, Mistakes> {
        Access::parse(text, Path::new("etc/hookonce.toml"), &|_| None)
    }

    #[test]
    fn the_rest_of_the_file_and_its_variables_are_not_asked_for() {
        let access = parsed(
            "[server]\nadmin_listen = \"127.0.0.1:9\"\ndata_dir = \"here\"\npublic_url = \"${URL}\"\n\
             admin_token = \"t\"\nadmin_tls = { cert = \"c.pem\", key = \"k.pem\" }\n\
             [store]\nurl = \"${STORE}\"\n[sources.stripe]\nsecrets = [\"${SECRET}\"]\n",
        )
        .unwrap();
        assert_eq!(access.admin_listen.port(), 9);
        assert_eq!(access.data_dir, Path::new("here"));
        assert_eq!(access.admin_tls.unwrap().cert, Path::new("etc/c.pem"));
        assert_eq!(access.admin_token.unwrap().unwrap().expose(), "t");
    }

    #[test]
    fn a_variable_that_is_missing_matters_where_it_is_needed() {
        let access = parsed("[server]\nadmin_token = \"${TOKEN}\"\n").unwrap();
        assert!(access.admin_token.unwrap_err().to_string().contains("TOKEN"));
        assert!(parsed("[server]\ndata_dir = \"${DIR}\"\n").is_err());
    }
}
