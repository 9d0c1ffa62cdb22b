//! What handlers take from a request: the caller, ids of the path, the typed body, the typed query. Each refuses with an
//! [`ErrorObject`](crate::error::ErrorObject), a body or a query with one entry for every bad field. The rules of fields
//! (lengths, alphabets) are the services'; here are only types.

mod bearer;
mod body;
mod fields;
mod path;
mod query;
mod visitor;

pub(crate) use bearer::Bearer;
pub(crate) use body::Body;
pub(crate) use fields::{Fields, FromFields};
pub(crate) use path::{IdPath, MemberPath, RoomPath, SessionPath, UserPath};
pub(crate) use query::{FromParams, Params, Query};
pub(crate) use visitor::Visitor;
