//! `EmailService`: what goes by mail, and what the links in mails do. Which mails go out is decided by `mail/mailer.rs`, after
//! the answer.

use std::sync::Arc;

use mesh::{error::Answer, proto::auth::v1 as pb, text::Violations};
use tonic::{Request, Response, Status};

use super::{AuthApi, convert, refuse};
use crate::{
    account::Email,
    mail::{Kind, MailTokenHash},
    password::Password,
};

/// `EmailService`, over the same domain.
#[derive(Clone, Debug)]
pub struct EmailApi(pub Arc<AuthApi>);

impl EmailApi {
    /// Has a mail go to an address, if it is an account's.
    async fn ask<T>(&self, kind: Kind, request: &Request<T>, email: &str) -> Result<(), Status> {
        let email = Email::parse("email", email).map_err(convert::violation)?;
        self.0.accounts.mails.ask(kind, &email, &self.0.client(request)).await.map_err(refuse)
    }
}

#[tonic::async_trait]
impl pb::email_service_server::EmailService for EmailApi {
    async fn request_password_reset(
        &self,
        request: Request<pb::RequestPasswordResetRequest>,
    ) -> Answer<pb::RequestPasswordResetResponse> {
        self.ask(Kind::PasswordReset, &request, &request.get_ref().email).await?;
        Ok(Response::new(pb::RequestPasswordResetResponse {}))
    }

    async fn reset_password(&self, request: Request<pb::ResetPasswordRequest>) -> Answer<pb::ResetPasswordResponse> {
        let client = self.0.client(&request);
        let message = request.into_inner();
        let mut violations = Violations::default();
        let token = violations.check(MailTokenHash::parse("token", &message.token));
        let new = violations.check(Password::parse_new("new_password", message.new_password));
        let (token, new) = convert::both(violations, token, new)?;
        self.0.accounts.reset_password(token, &new, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::ResetPasswordResponse {}))
    }

    async fn request_email_verification(
        &self,
        request: Request<pb::RequestEmailVerificationRequest>,
    ) -> Answer<pb::RequestEmailVerificationResponse> {
        self.ask(Kind::EmailVerification, &request, &request.get_ref().email).await?;
        Ok(Response::new(pb::RequestEmailVerificationResponse {}))
    }

    async fn verify_email(&self, request: Request<pb::VerifyEmailRequest>) -> Answer<pb::VerifyEmailResponse> {
        let token = MailTokenHash::parse("token", &request.get_ref().token).map_err(convert::violation)?;
        self.0.accounts.verify_email(token, &self.0.client(&request)).await.map_err(refuse)?;
        Ok(Response::new(pb::VerifyEmailResponse {}))
    }
}
