//! The surface: `UserService` of the contract. Each handler says who may call, reads the request (`grpc/request.rs`),
//! calls the domain (`profile.rs`) and encodes the answer. It decides nothing about profiles.

use mesh::{
    error::{Answer, Refusal},
    identity::{self, Caller, ServiceName},
    proto::user::v1::{
        BatchGetUsersRequest, BatchGetUsersResponse, CreateUserRequest, CreateUserResponse, EraseUserRequest,
        EraseUserResponse, GetUserRequest, GetUserResponse, SetUsernameRequest, SetUsernameResponse, UpdateUserRequest,
        UpdateUserResponse, User, user_service_server::UserService,
    },
    text,
};
use tonic::{Request, Response, Status};

use crate::{
    config::Limits,
    error::Error,
    profile::{OwnProfile, Profile, Profiles, UserId},
};

mod request;

/// The service's handlers.
#[derive(Debug)]
pub(crate) struct Users {
    profiles: Profiles,
    limits: Limits,
}

impl Users {
    pub(crate) fn new(profiles: Profiles, limits: Limits) -> Self {
        Self { profiles, limits }
    }
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Answer<CreateUserResponse> {
        identity::service(&request, &[ServiceName::Auth])?;
        let new = request::new_profile(&request.into_inner(), &self.limits)?;
        let profile = self.profiles.create(&new).await?;
        Ok(Response::new(CreateUserResponse { user: Some(seen(profile)) }))
    }

    async fn set_username(&self, request: Request<SetUsernameRequest>) -> Answer<SetUsernameResponse> {
        identity::service(&request, &[ServiceName::Auth])?;
        let rename = request::rename(&request.into_inner(), &self.limits)?;
        self.profiles.rename(&rename).await?;
        Ok(Response::new(SetUsernameResponse {}))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Answer<EraseUserResponse> {
        identity::service(&request, &[ServiceName::Auth])?;
        let id = request::user_id(&request.get_ref().user_id)?;
        self.profiles.erase(id).await?;
        Ok(Response::new(EraseUserResponse {}))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<GetUserResponse> {
        let caller = caller(&request)?;
        let id = request::user_id(&request.get_ref().user_id)?;
        let user = if is_themself(&caller, id) {
            own(self.profiles.own(id).await?)
        } else {
            seen(self.profiles.seen(id).await?)
        };
        Ok(Response::new(GetUserResponse { user: Some(user) }))
    }

    async fn batch_get_users(&self, request: Request<BatchGetUsersRequest>) -> Answer<BatchGetUsersResponse> {
        caller(&request)?;
        let ids = request::user_ids(&request.get_ref().user_ids, self.limits.batch_max)?;
        let profiles = self.profiles.several(&ids).await?;
        Ok(Response::new(BatchGetUsersResponse { users: profiles.into_iter().map(seen).collect() }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Answer<UpdateUserResponse> {
        let me = UserId(identity::user(&request)?.user_id);
        let validate_only = request.get_ref().validate_only;
        let update = request::update(request.into_inner(), &self.limits)?;
        if update.id.is_some_and(|id| id != me) {
            return Err(Error::NotYours.into());
        }
        let profile =
            if validate_only { self.profiles.own(me).await? } else { self.profiles.update(me, &update.change).await? };
        Ok(Response::new(UpdateUserResponse { user: Some(own(profile)) }))
    }
}

/// Any user and any service may look people up.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    request.extensions().get::<Caller>().cloned().ok_or_else(Refusal::unauthorized)
}

fn is_themself(caller: &Caller, id: UserId) -> bool {
    match caller {
        Caller::User(user) => user.user_id == id.0,
        Caller::Service(_) => false,
    }
}

fn seen(profile: Profile) -> User {
    User {
        id: profile.id.0.to_string(),
        name: profile.name(),
        username: profile.username,
        first_name: profile.first_name,
        last_name: profile.last_name,
        bio: profile.bio,
        avatar_url: profile.avatar_url,
        preferences: None,
        create_time: Some(profile.created_at.into()),
        update_time: Some(profile.updated_at.into()),
    }
}

fn own(own: OwnProfile) -> User {
    User { preferences: Some(text::struct_from_json(&own.preferences)), ..seen(own.profile) }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}
