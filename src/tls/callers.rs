//! The list of who may call what: a file that a person can read (`callers.toml`), and what becomes of it. It knows names of
//! certificates and calls; whose token a call bears is judged elsewhere.

use std::collections::{BTreeMap, HashMap};

use super::name;
use crate::proto::rpcs;

/// The list that counts when none is configured.
const BUILT_IN: &str = include_str!("callers.toml");
/// Stands for whoever has a certificate of the trust domain.
const ANY: &str = "any";

/// Who may call what.
#[derive(Debug)]
pub(super) struct Callers {
    /// By path: `/switchboard.auth.v1.AuthService/GetJwks`.
    by_path: HashMap<String, Box<[String]>>,
}

impl Callers {
    /// The list that is built in.
    pub(super) fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("invariant: a test reads it")
    }

    /// # Errors
    /// What is wrong with the text: no such list, a call that there is not, a name that none can have.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let services: BTreeMap<String, BTreeMap<String, Vec<String>>> = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("is no list of callers, in line {}: {}", before.matches('\n').count() + 1, error.message())
        })?;
        let mut by_path = HashMap::new();
        for (service, methods) in services {
            for (method, callers) in methods {
                let path = format!("/{service}/{method}");
                if rpcs::rpc(&path).is_none() {
                    return Err(format!("names {service}/{method}, and there is no such call"));
                }
                if let Some(bad) = callers.iter().find(|caller| !name::is_good(caller)) {
                    return Err(format!("lets {bad:?} call {method}, which can be nobody's name"));
                }
                by_path.insert(path, callers.into());
            }
        }
        Ok(Self { by_path })
    }

    /// Whether the process of this name may make this call.
    pub(super) fn allow(&self, caller: &str, path: &str) -> bool {
        self.by_path.get(path).is_some_and(|callers| callers.iter().any(|one| one == ANY || one == caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_contract_is_on_the_list_that_is_built_in() {
        let callers = Callers::built_in();
        let all: Vec<_> = rpcs::rpcs().map(|(service, method)| format!("/{service}/{method}")).collect();
        assert!(all.len() > 50, "{all:?}");
        for path in &all {
            assert!(callers.by_path.get(path).is_some_and(|callers| !callers.is_empty()), "{path} is not on the list");
        }
        assert_eq!(callers.by_path.len(), all.len());
    }

    #[test]
    fn who_is_not_named_and_what_is_not_listed_is_refused() {
        let list =
            "['switchboard.user.v1.UserService']\nCreateUser = ['auth-svc', 'team/billing']\nGetUser = ['any']\n";
        let callers = Callers::parse(list).expect("a list");
        let path = |method| format!("/switchboard.user.v1.UserService/{method}");
        for (caller, method, allowed) in [
            ("auth-svc", "CreateUser", true),
            ("team/billing", "CreateUser", true),
            ("team", "CreateUser", false),
            ("gateway", "CreateUser", false),
            ("gateway", "GetUser", true),
            ("auth-svc", "UpdateUser", false),
            ("auth-svc", "Nothing", false),
        ] {
            assert_eq!(callers.allow(caller, &path(method)), allowed, "{caller} {method}");
        }
        assert!(!callers.allow("any", "/") && !callers.allow("", ""));
    }

    #[test]
    fn a_list_with_a_mistake_is_refused_with_what_it_is() {
        for (text, said) in [
            ("[a", "in line 1"),
            ("['switchboard.user.v1.UserService']\nGetUser = 'any'", "in line 2"),
            ("['switchboard.user.v1.UserService']\nGetUsers = ['any']", "GetUsers"),
            ("['switchboard.user.v1.Users']\nGetUser = ['any']", "switchboard.user.v1.Users/GetUser"),
            ("['switchboard.user.v1.UserService']\nGetUser = ['a b']", "a b"),
        ] {
            let error = Callers::parse(text).expect_err(text);
            assert!(error.contains(said), "{error}");
        }
    }
}
