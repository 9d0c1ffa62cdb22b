//! The RPCs that there are, by path: the contract's, and those of health and reflection. Whatever else a caller names has no
//! name in metrics and traces, or every stranger could make new series, and no place on the list of who may call it.

use std::{collections::HashMap, sync::OnceLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto;

/// An RPC's service and method.
pub(crate) type Rpc = (&'static str, &'static str);

/// Health and reflection, whose descriptors are not the contract's.
const BESIDE: [Rpc; 5] = [
    ("grpc.health.v1.Health", "Check"),
    ("grpc.health.v1.Health", "List"),
    ("grpc.health.v1.Health", "Watch"),
    ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo"),
    ("grpc.reflection.v1alpha.ServerReflection", "ServerReflectionInfo"),
];

/// The RPC of this path, if there is one.
pub(crate) fn rpc(path: &str) -> Option<Rpc> {
    let (service, method) = known().get(path)?;
    Some((service, method))
}

/// All of them.
#[cfg(test)]
pub(crate) fn rpcs() -> impl Iterator<Item = Rpc> {
    known().values().map(|(service, method)| (&**service, &**method))
}

fn known() -> &'static HashMap<String, (String, String)> {
    static KNOWN: OnceLock<HashMap<String, (String, String)>> = OnceLock::new();
    KNOWN.get_or_init(all)
}

fn all() -> HashMap<String, (String, String)> {
    let contract = FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap_or_default();
    let of_contract = contract.file.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            let name = format!("{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    let beside = BESIDE.iter().map(|(service, method)| ((*service).to_owned(), (*method).to_owned()));
    of_contract.chain(beside).map(|(service, method)| (format!("/{service}/{method}"), (service, method))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rpcs_of_the_contract_are_known_and_no_others() {
        let send = Some(("switchboard.message.v1.MessageService", "SendMessage"));
        assert_eq!(rpc("/switchboard.message.v1.MessageService/SendMessage"), send);
        assert!(rpc("/grpc.health.v1.Health/Check").is_some());
        for path in ["", "/", "/switchboard.message.v1.MessageService/Nothing", "/a/b", "/a.v1.A/Do/"] {
            assert_eq!(rpc(path), None, "{path}");
        }
    }
}
