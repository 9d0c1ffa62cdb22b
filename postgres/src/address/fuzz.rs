//! The URL of a server, from whoever configures it: it is read, or refused in a sentence that does not show its password.

use test_input::{Edits, text};

use super::*;

#[test]
fn any_url_is_read_or_refused_without_its_password() {
    let service = crate::tests::service();
    let examples = [
        "postgres://me:hunter2@db.example:5432/switchboard?sslmode=require&application_name=x",
        "postgres://127.0.0.1/postgres",
        "postgres://me:hunter2@[::1]:5432/db?options[search_path]=a&keepalives=1",
    ];
    bolero::check!().with_type::<Edits>().for_each(|edits| {
        let url = text(&examples, edits);
        if let Err(OpenError(said)) = parse(&url, &service) {
            assert!(said.starts_with(service.setting), "{said}");
            // Unless an edit has made something else of it than a password.
            let elsewhere = url.matches("hunter2").count() > 1 || !url.contains(":hunter2@");
            assert!(elsewhere || !said.contains("hunter2"), "{said}");
        }
    });
}
