//! Which certificates the endpoints of AWS have to be signed by.
//!
//! The SDK would read the system's store: some 140 certificates, parsed one by one before the first
//! call, which is most of what there is to initialise. Five of them are Amazon's, and only those are
//! trusted here. That is stricter, too: no other authority can sign for an endpoint.

use std::{fs, io, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tracing::warn;

use crate::Settings;

const AMAZON_ROOTS: &str = include_str!("amazon_roots.pem");

/// The setting of AWS' SDKs and command line for a file of PEM certificates to trust instead, which
/// the Rust SDK does not read: for a proxy that inspects TLS, or for the system's whole store
/// (`/etc/pki/tls/certs/ca-bundle.crt` on Lambda).
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Whose certificates are trusted.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    Amazon,
    System,
    Bundle(Arc<RootCertStore>),
}

impl Trust {
    pub(crate) fn read(settings: &Settings<'_>) -> Self {
        if let Some(path) = settings.optional::<String>(BUNDLE) {
            let store = read_bundle(Path::new(&path)).unwrap_or_else(|problem| {
                settings.refuse(BUNDLE, path, problem);
                RootCertStore::empty()
            });
            return Self::Bundle(store.into());
        }
        let region = settings.optional::<String>("AWS_REGION");
        if has_amazon_roots(region.as_deref().unwrap_or_default()) {
            Self::Amazon
        } else {
            Self::System
        }
    }

    /// Reads and parses the certificates, but for those of a bundle, which are parsed already so that
    /// one that cannot be used is refused at once.
    pub(crate) fn roots(&self) -> io::Result<Arc<RootCertStore>> {
        let mut store = RootCertStore::empty();
        match self {
            Self::Bundle(store) => return Ok(Arc::clone(store)),
            Self::Amazon => {
                let roots = CertificateDer::pem_slice_iter(AMAZON_ROOTS.as_bytes());
                store.add_parsable_certificates(roots.flatten());
            }
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    return Err(io::Error::other(format!(
                        "the system has no certificates that can be used ({:?}): name a file of \
                         them in {BUNDLE}",
                        found.errors
                    )));
                }
            }
        }
        Ok(store.into())
    }
}

/// Whether the endpoints of a region chain to [`AMAZON_ROOTS`]: of the commercial regions and of
/// `GovCloud`. China, the isolated partitions and the European Sovereign Cloud have authorities of
/// their own, and a region that is not known yet may; there, the system's store is read.
fn has_amazon_roots(region: &str) -> bool {
    const AREAS: [&str; 9] = ["af", "ap", "ca", "eu", "il", "me", "mx", "sa", "us"];
    let mut labels = region.split('-');
    let area = labels.next().unwrap_or_default();
    AREAS.contains(&area) && labels.next().is_some_and(|place| !place.starts_with("iso"))
}

fn read_bundle(path: &Path) -> Result<RootCertStore, String> {
    let bundle = fs::read_to_string(path).map_err(|problem| problem.to_string())?;
    let mut store = RootCertStore::empty();
    for pem in certificates(&bundle) {
        // Real bundles hold certificates that cannot be parsed.
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string());
        if let Err(problem) = der.and_then(|der| store.add(der).map_err(|e| e.to_string())) {
            warn!(error = problem, "certificate of the bundle not used");
        }
    }
    if store.is_empty() { Err("holds no usable certificate".to_owned()) } else { Ok(store) }
}

/// The certificates in a PEM file.
fn certificates(text: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    text.match_indices(BEGIN).filter_map(|(start, _)| {
        let section = &text[start..];
        section.find(END).map(|end| &section[..end + END.len()])
    })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::{sdk_config, settings::lookup_in};

    /// SHA-256 of a DER sequence with this content.
    fn hash_of_sequence(content: &[u8]) -> String {
        let length = content.len();
        let header = match u8::try_from(length) {
            Ok(length @ ..0x80) => vec![0x30, length],
            Ok(length) => vec![0x30, 0x81, length],
            Err(_) => [&[0x30, 0x82], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
        };
        let digest = Sha256::digest([header.as_slice(), content].concat());
        digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    #[test]
    fn the_roots_have_the_keys_that_amazon_trust_services_publishes() {
        // <https://www.amazontrust.com/repository/>, "SHA-256 Hash of Subject Public Key
        // Information", in the order of the page.
        const PUBLISHED: [&str; 5] = [
            "fbe3018031f9586bcbf41727e417b7d1c45c2f47f93be372a17b96b50757d5a2",
            "7f4296fc5b6a4e3b35d3c369623e364ab1af381d8fa7121533c9d6c633ea2461",
            "36abc32656acfc645c61b71613c4bf21c787f5cabbee48348d58597803d7abc9",
            "f7ecded5c66047d28ed6466b543c40e0743abe81d109254dcf845d4c2c7853c5",
            "2b071c59a0a0ae76b0eadb2bad23bad4580b69c3601b630c2eaf0613afa83f92",
        ];
        let store = Trust::Amazon.roots().unwrap();
        let keys: Vec<String> = store
            .roots
            .iter()
            .map(|anchor| hash_of_sequence(anchor.subject_public_key_info.as_ref()))
            .collect();
        assert_eq!(keys, PUBLISHED);
    }

    #[test]
    fn other_partitions_have_the_store_of_the_system() {
        for region in
            ["us-east-1", "ap-northeast-2", "eu-central-2", "us-gov-west-1", "mx-central-1"]
        {
            assert!(has_amazon_roots(region), "{region}");
        }
        for region in [
            "cn-north-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eu-isoe-west-1",
            "eusc-de-east-1",
            "",
        ] {
            assert!(!has_amazon_roots(region), "{region}");
        }
    }

    #[test]
    fn of_a_bundle_everything_is_used_that_can_be_parsed() {
        const BROKEN: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let path = std::env::temp_dir().join(format!("sluice-{}.pem", std::process::id()));
        fs::write(&path, [BROKEN, AMAZON_ROOTS].concat()).unwrap();

        let store = read_bundle(&path).unwrap();

        fs::remove_file(path).unwrap();
        assert_eq!(store.len(), 5);
    }

    #[test]
    fn a_bundle_that_cannot_be_used_is_an_error_that_names_the_setting() {
        let error = |settings| {
            let lookup = lookup_in(settings);
            Settings::from_lookup(&lookup, sdk_config).expect_err("refused").to_string()
        };
        assert_eq!(
            error(&[("AWS_REGION", "eu-west-1"), (BUNDLE, "no/such/file.pem")]),
            "environment variable AWS_CA_BUNDLE is \"no/such/file.pem\": \
             No such file or directory (os error 2)"
        );
        assert_eq!(
            error(&[("AWS_REGION", "eu-west-1"), (BUNDLE, "Cargo.toml")]),
            "environment variable AWS_CA_BUNDLE is \"Cargo.toml\": holds no usable certificate"
        );
    }
}
