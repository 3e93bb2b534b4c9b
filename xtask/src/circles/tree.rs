//! Reads the modules of a crate: what each one declares, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::lexer::{Token, tokens};
use crate::step::{Failure, Result};

/// The names of the modules from the crate's root down; empty for the root itself.
pub(super) type ModulePath = Vec<String>;

/// The modules of a crate that are compiled outside of tests.
pub(super) type Tree = BTreeMap<ModulePath, Module>;

#[derive(Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    pub(super) imports: Vec<Import>,
    /// Paths of at least two segments outside of imports, with their lines.
    pub(super) paths: Vec<(Vec<String>, usize)>,
    /// The names of the items that it defines, without its modules.
    pub(super) items: BTreeSet<String>,
    /// Every word outside of imports.
    pub(super) words: BTreeSet<String>,
}

/// One name that a `use` brings in.
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// What it is called here; `*` for everything.
    pub(super) name: String,
    /// Whether others can import it from here.
    pub(super) is_public: bool,
    pub(super) line: usize,
}

/// Reads the crate whose root is this file. `source` returns the text of a file, or `None` if there is no such file.
pub(super) fn read(root: &Path, source: impl Fn(&Path) -> Option<String>) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut declared = vec![ModulePath::new()];
    while let Some(module) = declared.pop() {
        let stem = root.with_file_name("").join(module.iter().collect::<PathBuf>());
        let places = if module.is_empty() {
            vec![root.to_path_buf()]
        } else {
            vec![stem.with_extension("rs"), stem.join("mod.rs")]
        };
        let found = places.into_iter().find_map(|file| source(&file).map(|text| (file, text)));
        let Some((file, text)) = found else {
            let name = module.join("::");
            return Err(Failure::Because(format!("module {name} of {} has no file", root.display())));
        };
        let tokens = tokens(&text);
        Reader { rest: &tokens, file: &file, tree: &mut tree, declared: &mut declared }.module(&module);
    }
    Ok(tree)
}

/// Goes through the tokens of one file.
struct Reader<'a> {
    rest: &'a [Token<'a>],
    file: &'a Path,
    tree: &'a mut Tree,
    /// The modules that have files of their own.
    declared: &'a mut Vec<ModulePath>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The text of the token that is so many further on; empty behind the last.
    fn peek(&self, ahead: usize) -> &'a str {
        self.rest.get(ahead).map_or("", |token| token.text)
    }

    /// Reads a module up to the brace that closes it, or to the end of the file.
    fn module(&mut self, name: &[String]) {
        let mut module = Module { file: self.file.to_path_buf(), ..Module::default() };
        let (mut depth, mut is_public, mut before) = (0, false, "");
        while let Some(token) = self.next() {
            match token.text {
                "#" if matches!(self.peek(0), "[" | "!") && self.attribute() => self.skip_item(),
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "mod" if self.peek(1) == ";" => {
                    self.declared.push(below(name, self.peek(0)));
                }
                "mod" if self.peek(1) == "{" => {
                    let inner = below(name, self.peek(0));
                    self.rest = &self.rest[2..];
                    self.module(&inner);
                }
                // `use<'a>` in a bound imports nothing.
                "use" if self.peek(0) != "<" => {
                    self.imports(&mut Vec::new(), is_public, &mut module.imports);
                }
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" if depth == 0 => {
                    module.items.insert(self.peek(0).to_owned());
                }
                "macro_rules" => {
                    module.items.insert(self.peek(1).to_owned());
                }
                _ if token.is_word() && before != "::" && before != "." => self.path(token, &mut module),
                _ => {}
            }
            // `pub(in a::b) use` is public, too.
            is_public = match token.text {
                "pub" => true,
                ";" | "{" | "}" | "use" | "mod" => false,
                _ => is_public,
            };
            if token.is_word() {
                module.words.insert(token.text.to_owned());
            }
            before = token.text;
        }
        self.tree.insert(name.to_vec(), module);
    }

    /// Notes the path that begins with this word, if it has further segments.
    fn path(&mut self, first: Token<'a>, module: &mut Module) {
        let mut path = vec![first.text.to_owned()];
        while self.peek(0) == "::" && self.rest.get(1).is_some_and(Token::is_word) {
            path.push(self.peek(1).to_owned());
            self.rest = &self.rest[2..];
        }
        if path.len() > 1 {
            module.words.extend(path.iter().cloned());
            module.paths.push((path, first.line));
        }
    }

    /// Reads the tree of a `use`, up to the `;`, `,` or `}` that ends it.
    fn imports(&mut self, prefix: &mut Vec<String>, is_public: bool, imports: &mut Vec<Import>) {
        let begin = prefix.len();
        let mut name = None;
        while let Some(token) = self.next() {
            match token.text {
                "{" => {
                    while !matches!(self.peek(0), "}" | "") {
                        self.imports(&mut prefix.clone(), is_public, imports);
                    }
                    self.next();
                    name = None;
                    prefix.truncate(begin);
                }
                "as" => name = self.next().map(|alias| alias.text.to_owned()),
                "self" if begin > 0 => name = prefix.last().cloned(),
                "*" => name = Some("*".to_owned()),
                _ if token.is_word() => {
                    prefix.push(token.text.to_owned());
                    name = prefix.last().cloned();
                }
                _ => {}
            }
            let is_end = matches!(self.peek(0), ";" | "," | "}" | "");
            if is_end {
                if let Some(name) = name {
                    imports.push(Import { path: prefix.clone(), name, is_public, line: token.line });
                }
                if self.peek(0) != "}" {
                    self.next();
                }
                return;
            }
        }
    }

    /// Reads an attribute, and returns whether it is a condition that only tests fulfil.
    fn attribute(&mut self) -> bool {
        let mut words = Vec::new();
        let mut depth = 0;
        while let Some(token) = self.next() {
            match token.text {
                "[" => depth += 1,
                "]" => depth -= 1,
                "!" if depth == 0 => continue, // `#![..]`
                text => words.push(text),
            }
            if depth == 0 {
                break;
            }
        }
        let is_negated = |at: usize| at >= 2 && words[at - 2] == "not";
        let is_test = |at: usize| matches!(words[at], "test" | "doctest") && !is_negated(at);
        words.first() == Some(&"cfg") && !words.contains(&"any") && (0..words.len()).any(is_test)
    }

    /// Skips an item, with further attributes before it: to its `;`, or to the end of its body. A field, a variant or an
    /// arm of a `match` ends at its comma.
    fn skip_item(&mut self) {
        while self.peek(0) == "#" {
            self.next();
            self.attribute();
        }
        let ends_at_comma = !ITEMS.contains(&self.peek(0));
        let mut depth = 0;
        while depth > 0 || !matches!(self.peek(0), "}" | ")" | "") {
            let text = self.next().map_or("", |token| token.text);
            match text {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && (matches!(text, ";" | "}") || text == "," && ends_at_comma) {
                return;
            }
        }
    }
}

/// What an item or a statement can begin with.
const ITEMS: [&str; 15] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "let",
    "macro_rules",
    "mod",
    "pub",
    "static",
    "struct",
    "trait",
    "type",
    "use",
];

/// The module or item of this name in a module.
pub(super) fn below(module: &[String], name: &str) -> ModulePath {
    module.iter().map(String::as_str).chain([name]).map(str::to_owned).collect()
}
