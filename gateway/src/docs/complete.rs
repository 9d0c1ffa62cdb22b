//! What every operation of the document shares: its title, its security scheme, and the errors that any call may meet, so
//! that a handler names only those of its own.

use std::collections::HashSet;

use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    Schema, ServerBuilder,
    header::HeaderBuilder,
    path::{Operation, ParameterBuilder, ParameterIn, PathItem},
    schema::{ObjectBuilder, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};

use crate::error::ErrorObject;

const ABOUT: &str = "Accounts, people, rooms and messages. The same routes are served under `/api` and `/api/v1`.\n\n\
    Times are RFC 3339 in UTC with milliseconds; ids are opaque. Every answer carries `x-request-id`. Unknown fields in \
    a body are ignored. Errors are one object: branch on its `code`, never on its `message`.\n\n\
    Nothing personal may be kept by a cache (`cache-control: no-store`). Who asks again gives the `etag` of the answer that it has as \
    `if-none-match`, and is sent nothing but 304 when that still holds. Answers are compressed with gzip, brotli or zstd.\n\n\
    Live delivery is over Socket.IO at the path `/socket`; `GET /api/auth/ws-token` gives the token for it.";

/// The areas, in the order of the page.
const TAGS: [(&str, &str); 8] = [
    ("Accounts", "Register, log in and out, tokens, the caller's own profile"),
    ("Sessions", "The caller's logins on their devices"),
    ("Second factor", "The caller's authenticator app, recovery codes and remembered devices"),
    ("Email", "A forgotten password, and whose an address is: links with tokens that are good once"),
    ("Users", "People as others see them"),
    ("Rooms", "Rooms and their members"),
    ("Messages", "History, and sending once"),
    ("Admin", "What the role `admin` may do: the audit log, roles, invitations, service accounts and their API keys"),
];

/// Errors that are told once: the name, the status and when.
const SHARED: [(&str, &str, &str); 8] = [
    ("Invalid", "400", "VALIDATION_FAILED with an entry in `errors` for each bad field, or MALFORMED_BODY"),
    ("Unauthorized", "401", "UNAUTHORIZED, TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED"),
    ("TooLarge", "413", "PAYLOAD_TOO_LARGE: the body is past its limit, 256 KiB by default"),
    ("MediaType", "415", "UNSUPPORTED_MEDIA_TYPE: the body must be application/json"),
    ("RateLimited", "429", "RATE_LIMITED: come back after the seconds in `retry-after`"),
    ("Internal", "500", "INTERNAL: a fault of ours; the log has it under `requestId`"),
    ("Unavailable", "503", "UNAVAILABLE: a service is away; try again"),
    ("DeadlineExceeded", "504", "DEADLINE_EXCEEDED: the answer did not come in time"),
];

/// The name of the answer 304.
const NOT_MODIFIED: &str = "NotModified";

/// Completes the document that the routers made.
pub(crate) fn complete(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("Switchboard")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/").build()]);
    let tag = |(name, text): (&str, &str)| TagBuilder::new().name(name).description(Some(text)).build();
    document.tags = Some(TAGS.into_iter().map(tag).collect());
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(
            "The `accessToken` of registering, logging in or refreshing, or the API key of a service account",
        ))
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    for (name, status, text) in SHARED {
        components.responses.insert(name.to_owned(), RefOr::T(shared(status, text)));
    }
    components.responses.insert(NOT_MODIFIED.to_owned(), RefOr::T(not_modified()));
    let optional = all_optional(components);
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        add_errors(operation);
        allow_no_body(operation, &optional);
    }
    document.paths.paths.values_mut().filter_map(|item| item.get.as_mut()).for_each(add_condition);
    document
}

/// What a GET answers to who has its bytes already.
fn not_modified() -> Response {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let header = HeaderBuilder::new().schema(Some(text)).description(Some("The tag that was named")).build();
    ResponseBuilder::new().description("Nothing has changed since `if-none-match`").header("etag", header).build()
}

/// The routes are those that `rest.rs` wraps in `layers::etag`.
fn add_condition(operation: &mut Operation) {
    let admin = operation.tags.iter().flatten().any(|tag| tag == "Admin");
    let once = ["wsToken", "exportAccount"];
    if admin || operation.operation_id.as_deref().is_some_and(|id| once.contains(&id)) {
        return;
    }
    let parameter = ParameterBuilder::new()
        .name("if-none-match")
        .parameter_in(ParameterIn::Header)
        .description(Some("The `etag` of an earlier answer: 304 and no body when it is still the same"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    let unchanged = RefOr::Ref(Ref::from_response_name(NOT_MODIFIED));
    operation.responses.responses.insert("304".to_owned(), unchanged);
}

/// Where the schemas are that require no field.
fn all_optional(components: &Components) -> HashSet<String> {
    let is_optional =
        |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.required.is_empty());
    let schemas = components.schemas.iter().filter(|(_, schema)| is_optional(schema));
    schemas.map(|(name, _)| format!("#/components/schemas/{name}")).collect()
}

/// No body is an object without fields (`extract/body.rs`), so one that needs none may be left out.
fn allow_no_body(operation: &mut Operation, optional: &HashSet<String>) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    let schemas = body.content.values().map(|content| match content {
        RefOr::T(content) => content.schema.as_ref(),
        RefOr::Ref(_) => None,
    });
    let is_optional = |schema: Option<&RefOr<Schema>>| match schema {
        Some(RefOr::Ref(place)) => optional.contains(&place.ref_location),
        Some(RefOr::T(_)) | None => false,
    };
    if schemas.into_iter().all(is_optional) {
        body.required = Some(Required::False);
    }
}

fn shared(status: &str, text: &str) -> Response {
    let schema = Ref::from_schema_name(<ErrorObject as utoipa::ToSchema>::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(text).content("application/json", content);
    if status != "429" {
        return response.build();
    }
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
    let header = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds to wait")).build();
    response.header("retry-after", header).build()
}

/// The operations of a path, for those methods that this API has.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().filter_map(Option::as_mut)
}

fn add_errors(operation: &mut Operation) {
    let body = operation.request_body.is_some();
    let query = operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => false,
    });
    let bearer = operation.security.is_some();
    for (name, status, _) in SHARED {
        let applies = match status {
            "400" => body || query,
            "401" => bearer,
            "413" | "415" => body,
            _ => true,
        };
        if applies {
            let shared = RefOr::Ref(Ref::from_response_name(name));
            operation.responses.responses.entry(status.to_owned()).or_insert(shared);
        }
    }
}
