//! The texts of mails: built in, or from a folder. A template is `KIND.txt`, whose first line is the subject, and `KIND.html`;
//! `{{name}}` stands for a value. There are no loops and no conditions, so no template language is needed. All of it is read
//! and judged at the start, so that no mail fails for its template later. A value never becomes a line or a tag: control
//! characters are made blanks, and in HTML what has a meaning there is escaped.

use std::{collections::HashMap, fs, path::Path};

use super::Kind;

/// The longest file: mail programs cut what is longer than some 100 kB.
const FILE_BYTES_MAX: u64 = 64 << 10;

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a template may show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Field { $($(#[$doc])* $name,)* }

        impl Field {
            const ALL: &'static [Self] = &[$(Self::$name),*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

fields! {
    /// What this installation is called (`auth.mfa_issuer`).
    Product = "product";
    /// The account's username.
    Username = "username";
    /// The link with its token.
    Link = "link";
    /// The token alone, for links of one's own.
    Token = "token";
    /// How long the token is good: `1 hour`.
    ValidFor = "valid_for";
    /// When it was asked for or done.
    Time = "time";
    /// What the client calls itself that asked for it or did it.
    Device = "device";
    /// Roughly where that was.
    Place = "place";
    /// What happened, in a few words; in `factor_changed`.
    What = "what";
}

/// The values of one mail.
#[derive(Default)]
pub(super) struct Values(HashMap<Field, String>);

impl Values {
    pub(super) fn set(mut self, field: Field, value: impl Into<String>) -> Self {
        self.0.insert(field, value.into());
        self
    }

    fn get(&self, field: Field) -> &str {
        match self.0.get(&field).map(|value| value.trim()) {
            None | Some("") => "unknown",
            Some(value) => value,
        }
    }
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Words(String),
    Value(Field),
}

/// The texts of one kind of mail.
#[derive(Clone, Debug)]
struct Template {
    subject: Vec<Part>,
    text: Vec<Part>,
    html: Vec<Part>,
}

/// A mail's texts.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// The texts of all mails.
#[derive(Debug)]
pub struct Templates(HashMap<Kind, Template>);

fn built_in(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::PasswordReset => {
            (include_str!("templates/password_reset.txt"), include_str!("templates/password_reset.html"))
        }
        Kind::EmailVerification => {
            (include_str!("templates/email_verification.txt"), include_str!("templates/email_verification.html"))
        }
        Kind::PasswordChanged => {
            (include_str!("templates/password_changed.txt"), include_str!("templates/password_changed.html"))
        }
        Kind::NewDevice => (include_str!("templates/new_device.txt"), include_str!("templates/new_device.html")),
        Kind::FactorChanged => {
            (include_str!("templates/factor_changed.txt"), include_str!("templates/factor_changed.html"))
        }
    }
}

impl Templates {
    /// Those of a folder, and the built-in ones for what is not there; all built in when the path is empty.
    ///
    /// # Errors
    /// One sentence that names the file, the line and what is wrong.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let mut own = read_folder(folder)?;
        let mut templates = HashMap::new();
        for kind in Kind::ALL.iter().copied() {
            let (text, html) = built_in(kind);
            let mut file = |end: &str, built_in: &str| {
                let name = format!("{}.{end}", kind.as_str());
                match own.remove(&name) {
                    Some(source) => (folder.join(&name).display().to_string(), source),
                    None => (format!("the built-in {name}"), built_in.to_owned()),
                }
            };
            let (text, html) = (file("txt", text), file("html", html));
            templates.insert(kind, Template::parse(kind, &text, &html)?);
        }
        if let Some(name) = own.into_keys().min() {
            let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            let (shown, known) = (folder.join(name), known.join(", "));
            return Err(format!("{} is no template: there are {known}, each as .txt and .html", shown.display()));
        }
        Ok(Self(templates))
    }

    pub(super) fn render(&self, kind: Kind, values: &Values) -> Texts {
        let template = self.0.get(&kind).expect("invariant: every kind has its template");
        Texts {
            subject: fill(&template.subject, values, plain),
            text: fill(&template.text, values, plain),
            html: fill(&template.html, values, escaped),
        }
    }
}

/// The files of a folder by their names.
fn read_folder(folder: &Path) -> Result<HashMap<String, String>, String> {
    let mut files = HashMap::new();
    if folder.as_os_str().is_empty() {
        return Ok(files);
    }
    let failed = |path: &Path, error: std::io::Error| format!("auth.email.templates: {}: {error}", path.display());
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let size = fs::metadata(&path).map_err(|error| failed(&path, error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!("auth.email.templates: {}: has more than {FILE_BYTES_MAX} bytes", path.display()));
        }
        let source = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), source);
    }
    Ok(files)
}

impl Template {
    fn parse(kind: Kind, text: &(String, String), html: &(String, String)) -> Result<Self, String> {
        let (shown, source) = (&text.0, text.1.as_str());
        let (subject, body) = source.split_once('\n').unwrap_or((source, ""));
        let subject = subject.trim_end().strip_prefix("Subject:").map(str::trim).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| format!("{shown}: the first line must be `Subject:` and the subject"))?;
        let template = Self {
            subject: parts(subject).map_err(|(_, message)| format!("{shown}, line 1: {message}"))?,
            text: parts(body.trim_start_matches(['\r', '\n']))
                .map_err(|(line, message)| format!("{shown}, line {line} after the subject: {message}"))?,
            html: parts(&html.1).map_err(|(line, message)| format!("{}, line {line}: {message}", html.0))?,
        };
        for (shown, parts) in [(shown, &template.text), (&html.0, &template.html)] {
            let leads = |field| parts.contains(&Part::Value(field));
            if kind.has_token() && !leads(Field::Link) && !leads(Field::Token) {
                return Err(format!("{shown}: must have {{{{link}}}} or {{{{token}}}}, which the mail is sent for"));
            }
            if !kind.has_token() && (leads(Field::Link) || leads(Field::Token) || leads(Field::ValidFor)) {
                return Err(format!(
                    "{shown}: this mail has no link: remove {{{{link}}}}, {{{{token}}}}, {{{{valid_for}}}}"
                ));
            }
        }
        let shows_token =
            |parts: &[Part]| [Field::Link, Field::Token].map(Part::Value).iter().any(|it| parts.contains(it));
        if shows_token(&template.subject) {
            return Err(format!(
                "{shown}, line 1: a subject is seen by everybody: no {{{{link}}}} and no {{{{token}}}}"
            ));
        }
        Ok(template)
    }
}

/// Takes a text apart; what is wrong, and in which line.
fn parts(source: &str) -> Result<Vec<Part>, (usize, String)> {
    let (mut parts, mut rest) = (Vec::new(), source);
    while let Some((words, after)) = rest.split_once("{{") {
        let line = 1 + source[..source.len() - after.len()].matches('\n').count();
        let (name, after) = after.split_once("}}").ok_or_else(|| (line, "`{{` has no `}}`".to_owned()))?;
        let name = name.trim();
        let field = Field::ALL.iter().copied().find(|field| field.as_str() == name).ok_or_else(|| {
            let known: Vec<_> = Field::ALL.iter().map(|field| field.as_str()).collect();
            (line, format!("there is no value {name:.40}; there are {}", known.join(", ")))
        })?;
        parts.extend([Part::Words(words.to_owned()), Part::Value(field)]);
        rest = after;
    }
    parts.push(Part::Words(rest.to_owned()));
    Ok(parts)
}

fn fill(parts: &[Part], values: &Values, shown: fn(&str) -> String) -> String {
    let part = |part: &Part| match part {
        Part::Words(words) => words.clone(),
        Part::Value(field) => shown(values.get(*field)),
    };
    parts.iter().map(part).collect()
}

/// A value on one line.
fn plain(value: &str) -> String {
    // Line separators and marks that turn the direction of writing would change what is read around the value.
    let turns = |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    value.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

/// A value in HTML, in an attribute too.
pub(super) fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in plain(value).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(username: &str) -> Values {
        let link = "http://localhost:3000/#reset-password=sbl_x";
        Values::default().set(Field::Username, username).set(Field::Link, link).set(Field::Product, "Switchboard")
    }

    /// The templates with this file, and what is wrong with it.
    fn with(name: &str, source: &str) -> Result<Templates, String> {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join(name), source).expect("written");
        Templates::open(folder.path())
    }

    #[test]
    fn every_kind_has_built_in_texts_with_all_their_values() {
        let templates = Templates::open(Path::new("")).expect("good");
        for kind in Kind::ALL {
            let texts = templates.render(*kind, &values("ada"));
            for text in [&texts.subject, &texts.text, &texts.html] {
                assert!(!text.contains("{{") && !text.trim().is_empty(), "{kind:?}: {text}");
            }
            assert!(texts.text.contains("ada") && texts.html.contains("ada"), "{kind:?}");
            assert!(!texts.subject.contains('\n'));
        }
    }

    #[test]
    fn a_value_becomes_neither_a_tag_nor_a_line() {
        let templates = Templates::open(Path::new("")).expect("good");
        let bad = "<script>alert(\"x\")</script>\r\nBcc: eve@example.org\u{202e}'&";
        let texts = templates.render(Kind::PasswordReset, &values(bad));
        assert!(!texts.html.contains("<script>") && texts.html.contains("&lt;script&gt;alert(&quot;x&quot;)"));
        assert!(!texts.html.contains("'&\u{202e}") && texts.html.contains("&#39;&amp;"));
        for text in [&texts.subject, &texts.text, &texts.html] {
            assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
        }
        let templates = with("password_reset.txt", "Subject: For {{ username }}\n\n{{token}}").expect("good");
        assert_eq!(templates.render(Kind::PasswordReset, &values("a\r\nb")).subject, "For a  b");
    }

    #[test]
    fn a_folder_takes_the_place_of_what_is_in_it() {
        let templates = with("password_reset.txt", "Subject: Hello\n\nUse {{link}}, {{username}}.\n").expect("good");
        let texts = templates.render(Kind::PasswordReset, &values("ada"));
        assert_eq!(texts.text, "Use http://localhost:3000/#reset-password=sbl_x, ada.\n");
        assert_eq!(texts.subject, "Hello");
        assert!(texts.html.contains("<a href"), "the other one is built in");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_with_its_file_and_line() {
        let long = format!("Subject: x\n{}", "x".repeat(70_000));
        for (name, source, says) in [
            ("password_reset.txt", "Hello {{link}}", "`Subject:`"),
            ("password_reset.txt", "Subject: \n{{link}}", "`Subject:`"),
            ("password_reset.txt", "Subject: x\n\nHello\n{{lnk}}", "line 2 after the subject: there is no value lnk"),
            ("password_reset.txt", "Subject: x\n\nHello {{link", "has no `}}`"),
            ("password_reset.txt", "Subject: {{link}}\n\n{{link}}", "seen by everybody"),
            ("password_reset.html", "<p>\n<b>{{user}}", "line 2: there is no value user"),
            ("password_reset.html", "<p>Hello</p>", "must have {{link}} or {{token}}"),
            ("password_changed.html", "<p>{{link}}</p>", "this mail has no link"),
            ("pasword_reset.txt", "Subject: x\n\n{{link}}", "is no template: there are password_reset, "),
            ("password_reset.txt", &long, "more than 65536 bytes"),
        ] {
            let told = with(name, source).expect_err("refused");
            assert!(told.contains(says) && told.contains(name), "{told}");
        }
        let missing = Templates::open(Path::new("/nowhere/at/all")).expect_err("refused");
        assert!(missing.contains("auth.email.templates") && missing.contains("/nowhere/at/all"), "{missing}");
    }
}
