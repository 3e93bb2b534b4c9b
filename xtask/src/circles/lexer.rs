//! Splits Rust source into the tokens that module paths are made of.

/// A word, `::`, or one character of punctuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Token<'_> {
    /// Whether it is an identifier or a keyword.
    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c == '_' || c.is_alphabetic())
    }
}

/// The tokens of a file, without its comments, literals and lifetimes.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while !rest.is_empty() {
        let (length, is_code) = match blank(rest) {
            Some(length) => (length, false),
            None if rest.starts_with("::") => (2, true),
            None => (word(rest).max(rest.chars().next().map_or(1, char::len_utf8)), true),
        };
        let (text, after) = rest.split_at(length);
        if is_code {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// The length of what is not code, if the text begins with such.
fn blank(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    match first {
        _ if first.is_whitespace() => Some(first.len_utf8()),
        '/' if text.starts_with("//") => Some(text.find('\n').unwrap_or(text.len())),
        '/' if text.starts_with("/*") => Some(block_comment(text)),
        '"' => Some(string(text)),
        '\'' => Some(character_or_lifetime(text)),
        '0'..='9' => Some(word(text)),
        'b' | 'c' | 'r' => prefixed_string(text),
        _ => None,
    }
}

fn word(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match rest {
            [b'/', b'*', ..] => 1,
            [b'*', b'/', ..] => -1,
            _ => 0,
        };
        depth += step;
        at += if step == 0 { 1 } else { 2 };
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// `'a'`, `'\n'` and `'"'` are characters; `'a` without a second quote is a lifetime.
fn character_or_lifetime(text: &str) -> usize {
    let mut after = text.char_indices().skip(1);
    match (after.next(), after.next()) {
        (Some((_, '\\')), Some((escaped, _))) => {
            text[escaped + 1..].find('\'').map_or(text.len(), |quote| escaped + quote + 2)
        }
        (_, Some((quote, '\''))) => quote + 1,
        _ => 1 + word(&text[1..]),
    }
}

/// `b".."`, `c".."`, `r".."`, `br#".."#` and the like.
fn prefixed_string(text: &str) -> Option<usize> {
    let prefix = word(text);
    let quoted = text[prefix..].trim_start_matches('#');
    let hashes = text.len() - prefix - quoted.len();
    match &text[..prefix] {
        "b" | "c" if hashes == 0 && quoted.starts_with('"') => Some(prefix + string(quoted)),
        "r" | "br" | "cr" if quoted.starts_with('"') => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &quoted[1..];
            Some(prefix + hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).iter().filter(|token| token.is_word()).map(|token| token.text).collect()
    }

    #[test]
    fn comments_literals_and_lifetimes_are_no_code() {
        assert_eq!(words("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(words(r#"a "b \" c" d '"' e '\'' f b"g" h"#), ["a", "d", "e", "f", "h"]);
        assert_eq!(words("a r#\"b \" c\"# d 'l e 1_u8"), ["a", "d", "e"]);
        assert_eq!(words("r br rest"), ["r", "br", "rest"]);
    }

    #[test]
    fn lines_are_counted_through_what_is_left_out() {
        let lines: Vec<_> = tokens("a\n/*\n*/ b \"\n\" :: c").iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 4, 4]);
    }
}
