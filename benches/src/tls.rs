//! TLS connections of the load generator, and the certificate that the servers show it.
//!
//! Handshakes block. The certificate is made anew for each run and trusted by this generator alone.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::link;

/// Certificate and key on disk, and a client that trusts them.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    client: Arc<ClientConfig>,
}

/// An encrypted connection.
pub(crate) type TlsLink = StreamOwned<ClientConnection, TcpStream>;

impl Identity {
    /// Makes one for `localhost` in a folder.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
        let identity = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&identity.0, made.cert.pem())?;
        fs::write(&identity.1, made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { certificate: identity.0, key: identity.1, client: Arc::new(client) })
    }

    /// Connects; the handshake happens with the first bytes.
    pub(crate) fn dial(&self, address: SocketAddr) -> io::Result<TlsLink> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(self.client.clone(), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(session, link::dial(address, None)?))
    }
}
