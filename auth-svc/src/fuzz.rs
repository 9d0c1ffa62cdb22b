//! What auth-svc reads that clients wrote: names, addresses, passwords, refresh tokens. Each is taken within its limits,
//! and the same when it is read again, or refused by field. `grpc/convert/fuzz.rs` has the requests.

use mesh::error::FieldViolation;
use test_input::{Edits, check_violations, text};
use uuid::Uuid;

use crate::{
    account::{Email, Login, Username, email_key},
    password::Password,
    refresh::RefreshTokens,
    session::SessionId,
};

fn check(violations: &[FieldViolation]) {
    check_violations(violations.iter().map(|violation| (&*violation.field, &*violation.message)));
}

#[test]
fn a_name_or_address_is_within_its_limits_and_stays_what_it_is() {
    let examples = ["ada", "Ada.Lovelace-1", "Ada@Example.com", " ﬀ＠example.com ", "ada@ß.example", "İ@x"];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let given = text(&examples, edits);
        match Username::parse("username", &given) {
            Ok(name) => {
                assert!((3..=32).contains(&given.len()) && given.is_ascii());
                assert_eq!(Login::parse("login", name.as_str()), Ok(Login::Username(name.key())));
            }
            Err(violation) => check(&[violation]),
        }
        match Email::parse("email", &given) {
            Ok(email) => {
                assert_eq!(Email::parse("email", email.as_str()).as_ref(), Ok(&email));
                assert_eq!(Email::kept(email.as_str().to_owned()), email);
                assert_eq!(Login::parse("login", email.as_str()), Ok(Login::Email(email.key().to_owned())));
                assert!(email.as_str().chars().count() <= 254 && email.key() == email_key(email.as_str()));
                // Who registers with what an address is compared by takes no other one.
                assert_eq!(email_key(email.key()), email.key());
            }
            Err(violation) => check(&[violation]),
        }
    });
}

#[test]
fn a_password_is_within_its_limits_or_refused_and_never_shown() {
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let given = text(&["correct horse battery staple", "e\u{301}"], edits);
        match Password::parse_new("password", given.clone()) {
            Ok(password) => {
                assert!(given.chars().count() <= 128 && !given.contains('\0'));
                assert_eq!(format!("{password:?}"), "Password(…)");
            }
            Err(violation) => check(&[violation]),
        }
    });
}

#[test]
fn no_refresh_token_is_genuine_but_ours_as_it_was_made() {
    let tokens = RefreshTokens::new(&[7; 32]);
    let good = tokens.first(SessionId(Uuid::nil()));
    let stranger = RefreshTokens::new(&[8; 32]).first(SessionId(Uuid::nil()));
    let examples = [good.expose(), stranger.expose()];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let given = text(&examples, edits);
        let read = tokens.parse(&given);
        assert_eq!(read.as_ref().is_some_and(|read| read.genuine), given == good.expose());
        if let Some(read) = read {
            assert_eq!(read.token.expose(), given);
        }
    });
}
