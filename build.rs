//! Compiles the contract under `proto/` with protox (no protoc needed) and writes the descriptor set that reflection
//! serves. Generated code stays in `OUT_DIR`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 9] = [
    "switchboard/auth/v1/account.proto",
    "switchboard/auth/v1/admin.proto",
    "switchboard/auth/v1/api_key.proto",
    "switchboard/auth/v1/auth.proto",
    "switchboard/auth/v1/email.proto",
    "switchboard/auth/v1/factor.proto",
    "switchboard/message/v1/message.proto",
    "switchboard/message/v1/send.proto",
    "switchboard/user/v1/user.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("switchboard.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // The transport's `connect` is never used: `mesh::client` makes every channel.
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
