//! Other spellings of a secret: what gets into it by copying.

use super::Case;
use crate::{
    provider::{Scheme, Settings},
    secret::Secret,
};

/// A way in which a secret can be written wrongly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    pub(super) wrong: &'static str,
    pub(super) fix: &'static str,
    pub(super) tried: &'static str,
    respell: fn(&str) -> Option<String>,
}

const PREFIX: &str = "whsec_";

const SPELLINGS: [Spelling; 6] = [
    Spelling {
        wrong: "it has white space around it",
        fix: "take the white space out",
        tried: "trimmed",
        respell: |text| Some(text.trim().to_owned()),
    },
    Spelling {
        wrong: "it has quotes around it",
        fix: "take the quotes out",
        tried: "taken out of its quotes",
        respell: |text| Some(text.trim().trim_matches(['"', '\'', '`']).trim().to_owned()),
    },
    Spelling {
        wrong: "it has the name of a variable in front",
        fix: "take the `NAME=` out",
        tried: "taken from behind its `=`",
        respell: |text| {
            let (name, value) = text.trim().split_once('=')?;
            let is_name =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            let value = value.trim().trim_matches(['"', '\'']);
            name.bytes().all(is_name).then(|| value.to_owned())
        },
    },
    Spelling {
        wrong: "`whsec_` is missing in front",
        fix: "write `whsec_` in front",
        tried: "written with `whsec_` in front",
        respell: |text| Some(format!("{PREFIX}{}", text.trim())),
    },
    Spelling {
        wrong: "`whsec_` in front is too much",
        fix: "take the `whsec_` in front out",
        tried: "written without `whsec_`",
        respell: |text| text.trim().strip_prefix(PREFIX).map(str::to_owned),
    },
    Spelling {
        wrong: "the provider's copy has a line end behind it",
        fix: "set it at the provider again, without a line end (`echo -n`), or add `\\n` to it",
        tried: "written with a line end",
        respell: |text| Some(format!("{text}\n")),
    },
];

/// The number of the secret, from 1, and the spelling of it that made the signature.
pub(super) fn spelling_that_fits(case: &Case<'_>) -> Option<(usize, Spelling)> {
    for (at, secret) in case.source.settings.secrets.iter().enumerate() {
        for spelling in SPELLINGS {
            let Some(text) = (spelling.respell)(secret.expose()) else { continue };
            if text != secret.expose()
                && scheme_with(case, text)
                    .is_some_and(|scheme| scheme.verify(case.request, case.as_of).is_ok())
            {
                return Some((at + 1, spelling));
            }
        }
    }
    None
}

fn scheme_with(case: &Case<'_>, secret: String) -> Option<Box<dyn Scheme>> {
    let settings = Settings { secrets: vec![Secret::new(secret)], ..case.source.settings.clone() };
    case.source.provider.scheme(&settings).ok()
}
