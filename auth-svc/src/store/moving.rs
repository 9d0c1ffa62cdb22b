//! The tables of auth-svc as records, the same from SQLite and from PostgreSQL. Sessions, their revocations and the
//! deliveries that have not arrived go along, so that nobody has to log in again where the keys go along too, and so do
//! second factors, whose secrets open with those keys alone, mails that wait, and the audit log, to which rows are only ever added; spent
//! WebSocket tokens do not, because they are over within a minute.

use mesh::moving::{Kind, Type};

/// Every table that goes along, those first that others refer to.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "account",
        table: "accounts",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("username", Type::Text),
            ("username_key", Type::Text),
            ("username_version", Type::Number),
            ("email", Type::Text),
            ("email_key", Type::Text),
            ("password_hash", Type::Text),
            ("roles", Type::Texts),
            ("created_at", Type::Number),
            ("updated_at", Type::Number),
            ("disabled_at", Type::Number),
            ("email_verified_at", Type::Number),
        ],
    },
    Kind {
        name: "session",
        table: "sessions",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("user_id", Type::Id),
            ("device", Type::Text),
            ("ip_address", Type::Text),
            ("refresh_hash", Type::Bytes),
            ("created_at", Type::Number),
            ("last_used_at", Type::Number),
            ("expires_at", Type::Number),
            ("ends_at", Type::Number),
            ("access_expires_at", Type::Number),
            ("ended_at", Type::Number),
            ("place", Type::Text),
            ("authenticated_at", Type::Number),
            ("amr", Type::Text),
        ],
    },
    Kind {
        name: "revocation_head",
        table: "revocation_head",
        key: &["one"],
        one: true,
        fields: &[("number", Type::Number)],
    },
    Kind {
        name: "revocation",
        table: "revocations",
        key: &["number"],
        one: false,
        fields: &[("number", Type::Number), ("session_id", Type::Id), ("expires_at", Type::Number)],
    },
    Kind {
        name: "delivery",
        table: "outbox",
        key: &["user_id", "username_version"],
        one: false,
        fields: &[
            ("user_id", Type::Id),
            ("username_version", Type::Number),
            ("username", Type::Text),
            ("created", Type::Flag),
            ("first_name", Type::Text),
            ("last_name", Type::Text),
            ("attempts", Type::Number),
            ("due_at", Type::Number),
        ],
    },
    Kind {
        name: "totp_factor",
        table: "totp_factors",
        key: &["user_id"],
        one: false,
        fields: &[
            ("user_id", Type::Id),
            ("sealed_secret", Type::Bytes),
            ("created_at", Type::Number),
            ("confirmed_at", Type::Number),
            ("last_step", Type::Number),
            ("failures", Type::Number),
            ("held_until", Type::Number),
        ],
    },
    Kind {
        name: "recovery_code",
        table: "recovery_codes",
        key: &["user_id", "hash"],
        one: false,
        fields: &[("user_id", Type::Id), ("hash", Type::Bytes)],
    },
    Kind {
        name: "trusted_device",
        table: "trusted_devices",
        key: &["user_id", "device_id"],
        one: false,
        fields: &[
            ("user_id", Type::Id),
            ("device_id", Type::Id),
            ("created_at", Type::Number),
            ("expires_at", Type::Number),
        ],
    },
    Kind {
        name: "invitation",
        table: "invitations",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("hash", Type::Bytes),
            ("note", Type::Text),
            ("made_by_kind", Type::Text),
            ("made_by", Type::Text),
            ("created_at", Type::Number),
            ("expires_at", Type::Number),
            ("used_at", Type::Number),
            ("used_by", Type::Id),
        ],
    },
    Kind {
        name: "service_account",
        table: "service_accounts",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("made_by_kind", Type::Text),
            ("made_by", Type::Text),
            ("created_at", Type::Number),
        ],
    },
    Kind {
        name: "api_key",
        table: "api_keys",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("user_id", Type::Id),
            ("hash", Type::Bytes),
            ("prefix", Type::Text),
            ("name", Type::Text),
            ("scopes", Type::Text),
            ("made_by_kind", Type::Text),
            ("made_by", Type::Text),
            ("created_at", Type::Number),
            ("expires_at", Type::Number),
            ("last_used_at", Type::Number),
        ],
    },
    Kind {
        name: "signing_key",
        table: "signing_keys",
        key: &["number"],
        one: false,
        fields: &[
            ("number", Type::Number),
            ("public", Type::Bytes),
            ("sealed", Type::Bytes),
            ("created_at", Type::Number),
            ("signs_from", Type::Number),
            ("leaves_at", Type::Number),
            ("token_secs", Type::Number),
        ],
    },
    Kind {
        name: "deletion",
        table: "deletions",
        key: &["user_id"],
        one: false,
        fields: &[
            ("user_id", Type::Id),
            ("asked_at", Type::Number),
            ("erase_at", Type::Number),
            ("erased_at", Type::Number),
            ("told", Type::Flag),
            ("place", Type::Text),
            ("attempts", Type::Number),
            ("due_at", Type::Number),
        ],
    },
    Kind {
        name: "mail",
        table: "mails",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("kind", Type::Text),
            ("user_id", Type::Id),
            ("address", Type::Text),
            ("details", Type::Text),
            ("slot", Type::Text),
            ("created_at", Type::Number),
            ("attempts", Type::Number),
            ("due_at", Type::Number),
            ("expires_at", Type::Number),
        ],
    },
    Kind {
        name: "mail_token",
        table: "mail_tokens",
        key: &["hash"],
        one: false,
        fields: &[
            ("hash", Type::Bytes),
            ("purpose", Type::Text),
            ("user_id", Type::Id),
            ("address", Type::Text),
            ("expires_at", Type::Number),
        ],
    },
    Kind {
        name: "mail_record",
        table: "mail_records",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("user_id", Type::Id),
            ("recipient", Type::Bytes),
            ("asked", Type::Flag),
            ("at", Type::Number),
            ("expires_at", Type::Number),
        ],
    },
    Kind {
        name: "event",
        table: "audit",
        key: &["id"],
        one: false,
        fields: &[
            ("id", Type::Id),
            ("at", Type::Number),
            ("event", Type::Text),
            ("succeeded", Type::Flag),
            ("actor_kind", Type::Text),
            ("actor", Type::Text),
            ("subject_id", Type::Id),
            ("session_id", Type::Id),
            ("ip_address", Type::Text),
            ("place", Type::Text),
            ("device", Type::Text),
            ("request_id", Type::Text),
            ("detail", Type::Text),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite;

    /// What stays: the migrations' own table, and what is over before a move is.
    const LEFT: [&str; 2] = ["_auth_migrations", "spent_ws_tokens"];

    #[tokio::test]
    async fn every_column_goes_along_or_is_left_on_purpose() {
        mesh_sqlite::testing::assert_moved(sqlite::service(), KINDS, &LEFT).await;
    }
}
