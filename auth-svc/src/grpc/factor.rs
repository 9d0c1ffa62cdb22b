//! `FactorService`: the caller's second factor. What may be done when is judged in `factor.rs`.

use std::sync::Arc;

use mesh::{error::Answer, proto::auth::v1 as pb};
use tonic::{Request, Response};

use super::{AuthApi, convert, refuse, with_session};
use crate::factor::Factors;

/// `FactorService`, over the same domain.
#[derive(Clone, Debug)]
pub struct FactorApi(pub Arc<AuthApi>);

impl FactorApi {
    fn factors(&self) -> &Factors {
        &self.0.accounts.factors
    }
}

#[tonic::async_trait]
impl pb::factor_service_server::FactorService for FactorApi {
    async fn get_factors(&self, request: Request<pb::GetFactorsRequest>) -> Answer<pb::GetFactorsResponse> {
        let (user, _) = with_session(&request)?;
        let factors = self.factors().of(user).await.map_err(refuse)?;
        Ok(Response::new(convert::factors(factors)))
    }

    async fn start_totp(&self, request: Request<pb::StartTotpRequest>) -> Answer<pb::StartTotpResponse> {
        let (user, session) = with_session(&request)?;
        let account = self.0.accounts.account(user).await.map_err(refuse)?;
        let made = self.factors().start(&account, session).await.map_err(refuse)?;
        let (secret, otpauth_uri, qr_svg) = (made.secret, made.otpauth_uri, made.qr_svg);
        Ok(Response::new(pb::StartTotpResponse { secret, otpauth_uri, qr_svg }))
    }

    async fn confirm_totp(&self, request: Request<pb::ConfirmTotpRequest>) -> Answer<pb::ConfirmTotpResponse> {
        let (user, session) = with_session(&request)?;
        let client = self.0.client(&request);
        let code = convert::code(&request.get_ref().code)?;
        let recovery_codes = self.factors().confirm(user, session, code, &client).await.map_err(refuse)?;
        Ok(Response::new(pb::ConfirmTotpResponse { recovery_codes }))
    }

    async fn remove_totp(&self, request: Request<pb::RemoveTotpRequest>) -> Answer<pb::RemoveTotpResponse> {
        let (user, session) = with_session(&request)?;
        self.factors().remove(user, session, &self.0.client(&request)).await.map_err(refuse)?;
        Ok(Response::new(pb::RemoveTotpResponse {}))
    }

    async fn make_recovery_codes(
        &self,
        request: Request<pb::MakeRecoveryCodesRequest>,
    ) -> Answer<pb::MakeRecoveryCodesResponse> {
        let (user, session) = with_session(&request)?;
        let made = self.factors().new_codes(user, session, &self.0.client(&request)).await;
        Ok(Response::new(pb::MakeRecoveryCodesResponse { recovery_codes: made.map_err(refuse)? }))
    }

    async fn forget_devices(&self, request: Request<pb::ForgetDevicesRequest>) -> Answer<pb::ForgetDevicesResponse> {
        let (user, _) = with_session(&request)?;
        let forgotten = self.factors().forget_devices(user, &self.0.client(&request)).await.map_err(refuse)?;
        Ok(Response::new(pb::ForgetDevicesResponse { forgotten_devices: convert::count(forgotten) }))
    }
}
