//! Stores that take different keys for the same one.

use idem_conformance::Rules;
use idem_core::Key;

use crate::broken::Broken;

pub(crate) const BUGS: &[Broken] = &[
    addressed(
        "joins scope and name with ':'",
        |key| [key.scope(), b":", key.name()].concat(),
        &["keys::n93_the_border_between_scope_and_name_counts"],
    ),
    addressed(
        "joins scope and name with nothing between",
        |key| [key.scope(), key.name()].concat(),
        &["keys::n93_the_border_between_scope_and_name_counts"],
    ),
    addressed(
        "ignores the scope of a key",
        |key| key.name().to_vec(),
        &[
            "keys::n97_two_scopes_with_one_name_are_independent",
            "keys::n97_a_sweep_a_release_and_an_abandon_touch_only_their_key",
        ],
    ),
    addressed(
        "folds the case of keys",
        |key| changed(key, <[u8]>::to_ascii_lowercase),
        &["keys::n95_case_counts"],
    ),
    addressed(
        "trims keys",
        |key| changed(key, |part| part.trim_ascii().to_vec()),
        &["keys::n95_trailing_blanks_count"],
    ),
    addressed(
        "composes letters in keys",
        |key| changed(key, |part| String::from_utf8_lossy(part).replace("e\u{301}", "\u{e9}").into_bytes()),
        &["keys::n95_composed_and_decomposed_letters_are_different"],
    ),
    addressed(
        "keeps keys as text",
        |key| changed(key, |part| String::from_utf8_lossy(part).into_owned().into_bytes()),
        &["encoding::n88_keys_may_hold_every_byte_value"],
    ),
    addressed(
        "drops NUL from keys",
        |key| changed(key, |part| part.iter().copied().filter(|byte| *byte != 0).collect()),
        &["encoding::n88_nul_bytes_in_keys_count"],
    ),
    addressed(
        "takes a part of one byte for none",
        |key| changed(key, |part| if part.len() > 1 { part.to_vec() } else { Vec::new() }),
        &["encoding::n92_the_shortest_keys_work"],
    ),
    addressed(
        "cuts the parts of a key at 64 bytes",
        |key| changed(key, |part| part[..part.len().min(64)].to_vec()),
        &["encoding::n92_the_longest_keys_differ_by_their_last_byte"],
    ),
    addressed(
        "uses only the text between the braces of a key",
        |key| {
            changed(key, |part| {
                let tag = part
                    .split(|byte| *byte == b'{')
                    .nth(1)
                    .and_then(|rest| rest.split(|byte| *byte == b'}').next());
                tag.unwrap_or(part).to_vec()
            })
        },
        &["keys::n94_keys_with_braces_are_independent"],
    ),
    addressed(
        "finds keys by pattern",
        |key| {
            changed(key, |part| {
                part.iter().map(|byte| if b"%_*?[]\\'\"".contains(byte) { b'?' } else { *byte }).collect()
            })
        },
        &["keys::n96_quotes_globs_newlines_sql_and_lua_in_a_key_are_inert"],
    ),
];

const fn addressed(
    name: &'static str,
    address: fn(&Key) -> Vec<u8>,
    caught_by: &'static [&'static str],
) -> Broken {
    Broken::rules(name, Rules { address, ..Rules::CORRECT }, caught_by)
}

/// Both parts of a key, changed and kept apart.
fn changed(key: &Key, change: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (scope, name) = (change(key.scope()), change(key.name()));
    let length = (scope.len() as u64).to_le_bytes();
    [&length[..], &scope, &name].concat()
}
