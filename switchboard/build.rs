//! Reads the documentation of every setting out of the types that hold them, for `switchboard config docs`: a table of paths and
//! texts, in `settings_docs.rs` of the build folder. A setting is a field of a struct that is a section, or lies in one.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use syn::{Attribute, Expr, ExprLit, Fields, ImplItem, Item, Lit, Meta, Type};

/// Where the structs are, seen from here: the chassis, whose structs all others use, and those who use them.
const FOLDERS: [&str; 5] = ["../src", "../gateway/src", "../auth-svc/src", "../user-svc/src", "../message-svc/src"];
/// What every struct of settings has written on it.
const MARK: &str = "deny_unknown_fields";

/// A struct by its folder's number and its name, which is its own in its folder alone.
type Name = (usize, String);

/// A field: its name, its type's name, its text.
type Field = (String, String, String);

#[derive(Default)]
struct Found {
    structs: BTreeMap<Name, Vec<Field>>,
    /// Section → its struct.
    sections: BTreeMap<String, Name>,
}

fn main() {
    let mut found = Found::default();
    for (number, folder) in FOLDERS.into_iter().enumerate() {
        println!("cargo::rerun-if-changed={folder}");
        read_folder(number, Path::new(folder), &mut found);
    }
    assert_eq!(found.sections.len(), 5, "the sections of the configuration: {:?}", found.sections);
    let mut table = Vec::new();
    for (section, name) in &found.sections {
        found.walk(section, name, &mut table);
    }
    let rows: String = table.iter().map(|(path, text)| format!("    ({path:?}, {text:?}),\n")).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo gives a folder")).join("settings_docs.rs");
    fs::write(out, format!("&[\n{rows}]\n")).expect("the build folder can be written");
}

fn read_folder(number: usize, folder: &Path, found: &mut Found) {
    for entry in fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_folder(number, &path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            // Most files hold no settings.
            if text.contains(MARK) {
                read_file(number, &text, found);
            }
        }
    }
}

fn read_file(folder: usize, text: &str, found: &mut Found) {
    for item in syn::parse_file(text).expect("Rust").items {
        if let Item::Struct(item) = item {
            let Fields::Named(fields) = item.fields else { continue };
            if item.attrs.iter().any(is_marked) {
                let fields = fields.named.into_iter().filter_map(|field| {
                    Some((field.ident?.to_string(), type_name(&field.ty), documentation(&field.attrs)))
                });
                let name = (folder, item.ident.to_string());
                let before = found.structs.insert(name.clone(), fields.collect());
                assert!(before.is_none(), "two structs of settings are called {name:?}");
            }
        } else if let Item::Impl(item) = item {
            let is_section = item.trait_.as_ref().is_some_and(|(_, path, _)| path.is_ident("Section"));
            if let Some(section) = item.items.iter().filter(|_| is_section).find_map(section_name) {
                found.sections.insert(section, (folder, type_name(&item.self_ty)));
            }
        }
    }
}

fn is_marked(attribute: &Attribute) -> bool {
    matches!(&attribute.meta, Meta::List(list) if list.tokens.to_string().contains(MARK))
}

/// `const NAME: &'static str = "gateway";`
fn section_name(item: &ImplItem) -> Option<String> {
    let ImplItem::Const(item) = item else { return None };
    if item.ident == "NAME" { text(&item.expr) } else { None }
}

fn text(expression: &Expr) -> Option<String> {
    let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = expression else { return None };
    Some(text.value())
}

fn type_name(kind: &Type) -> String {
    let Type::Path(path) = kind else { return String::new() };
    path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

/// The lines of a doc comment as one text.
fn documentation(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        if pair.path.is_ident("doc") { text(&pair.value) } else { None }
    };
    attributes.iter().filter_map(line).map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ")
}

impl Found {
    /// The fields of a struct and of all that lie in it, by their paths.
    fn walk(&self, path: &str, name: &Name, table: &mut Vec<(String, String)>) {
        for (field, kind, text) in &self.structs[name] {
            let path = format!("{path}.{field}");
            match [name.0, 0]
                .map(|folder| (folder, kind.clone()))
                .into_iter()
                .find(|name| self.structs.contains_key(name))
            {
                Some(inner) => self.walk(&path, &inner, table),
                None => table.push((path, text.clone())),
            }
        }
    }
}
