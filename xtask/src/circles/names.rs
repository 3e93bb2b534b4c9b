//! Finds the module that defines what a path names.

use super::tree::{Import, Module, ModulePath, Tree, below};

/// What a path leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    Module(ModulePath),
    /// Something that this module defines.
    Item(ModulePath),
}

/// Where this path leads to from within a module, or `None` if it leaves the crate.
pub(super) fn resolve(tree: &Tree, from: &[String], path: &[String]) -> Option<Target> {
    resolve_within(tree, from, path, MOST_STEPS)
}

/// The paths that an import makes its module depend on.
///
/// A glob stands for the names that are used. What a parent passes on of its own children only counts if the parent uses
/// it, too.
pub(super) fn imported(tree: &Tree, module: &[String], import: &Import) -> Vec<Vec<String>> {
    let words = &tree[module].words;
    if import.name == "*" {
        let Some(Target::Module(all)) = resolve(tree, module, &import.path) else { return Vec::new() };
        let names = words.iter().filter(|word| has(tree, &all, word));
        return names.map(|name| below(&import.path, name)).collect();
    }
    let is_of_child = || match resolve(tree, module, &import.path) {
        Some(Target::Item(definer)) => definer.starts_with(module),
        _ => false,
    };
    let is_only_passed_on = import.is_public && is_of_child() && !words.contains(&import.name);
    if is_only_passed_on { Vec::new() } else { vec![import.path.clone()] }
}

/// Imports can lead to each other in a circle that the compiler resolves by what kind of thing they name.
const MOST_STEPS: usize = 16;

fn resolve_within(tree: &Tree, from: &[String], path: &[String], steps: usize) -> Option<Target> {
    let steps = steps.checked_sub(1)?;
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => find(tree, &[], rest, steps),
        "self" => find(tree, from, rest, steps),
        // Any other name that the module does not have is another crate's, or the language's.
        _ if first == "super" || has(tree, from, first) || glob(tree, from, first, steps).is_some() => {
            find(tree, from, path, steps)
        }
        _ => None,
    }
}

/// Follows a path from a module on.
fn find(tree: &Tree, module: &[String], path: &[String], steps: usize) -> Option<Target> {
    let Some((first, rest)) = path.split_first() else { return Some(Target::Module(module.to_vec())) };
    if first == "super" {
        let (_, parent) = module.split_last()?;
        return find(tree, parent, rest, steps);
    }
    let this = tree.get(module)?;
    let child = below(module, first);
    let is_child = tree.contains_key(&child);
    if is_child && !rest.is_empty() {
        return find(tree, &child, rest, steps);
    }
    if this.items.contains(first) {
        return Some(Target::Item(module.to_vec()));
    }
    if let Some(import) = this.imports.iter().find(|import| import.name == *first) {
        return match resolve_within(tree, module, &import.path, steps)? {
            Target::Module(module) => find(tree, &module, rest, steps),
            item @ Target::Item(_) => Some(item),
        };
    }
    if is_child {
        return Some(Target::Module(child));
    }
    match glob(tree, module, first, steps) {
        Some(all) => find(tree, &all, path, steps),
        // A macro that the module calls defines it. At the root it is a macro of the crate's itself.
        None => (!module.is_empty()).then(|| Target::Item(module.to_vec())),
    }
}

/// The module from which a glob brings in this name.
fn glob(tree: &Tree, module: &[String], name: &str, steps: usize) -> Option<ModulePath> {
    let globs = tree.get(module)?.imports.iter().filter(|import| import.name == "*");
    globs.filter_map(|glob| resolve_within(tree, module, &glob.path, steps)).find_map(|target| match target {
        Target::Module(all) if has(tree, &all, name) => Some(all),
        _ => None,
    })
}

/// Whether a module defines or imports this name.
fn has(tree: &Tree, module: &[String], name: &str) -> bool {
    let is_item = |module: &Module| {
        module.items.contains(name) || module.imports.iter().any(|import| import.name == name)
    };
    tree.contains_key(&below(module, name)) || tree.get(module).is_some_and(is_item)
}
