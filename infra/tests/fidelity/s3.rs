use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::EncodingType;

use crate::{
    Seen,
    world::{PLAIN, VERSIONED, World},
};

/// The code, and the HTTP status, which is all that a HEAD gives.
fn refused<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    format!("{status} {}", code.unwrap_or("without a code"))
}

async fn get(world: &World, bucket: &str, key: &str, version: Option<&str>) -> String {
    let call = world.s3.get_object().bucket(bucket).key(key);
    match call.set_version_id(version.map(str::to_owned)).send().await {
        Ok(object) => {
            let bytes = object.body.collect().await.unwrap().into_bytes();
            String::from_utf8(bytes.to_vec()).unwrap()
        }
        Err(error) => refused(&error),
    }
}

async fn head(world: &World, bucket: &str, key: &str, version: Option<&str>) -> String {
    let call = world.s3.head_object().bucket(bucket).key(key);
    match call.set_version_id(version.map(str::to_owned)).send().await {
        Ok(object) => format!("{} bytes", object.content_length.unwrap_or_default()),
        Err(error) => refused(&error),
    }
}

/// Keys that need some form of encoding somewhere.
const ODD_KEYS: [&str; 5] =
    ["a b+c.json", "a/b%2Bc.json", "ä/日本.json", "a&b<c>.json", "'\"!*().json"];

pub(crate) async fn objects(world: &World, seen: &mut Seen) {
    let put = async |key: &str, content: &str, condition: (Option<&str>, Option<&str>)| {
        let call = world.s3.put_object().bucket(PLAIN).key(key);
        let call = call.set_if_none_match(condition.0.map(str::to_owned));
        let call = call.set_if_match(condition.1.map(str::to_owned));
        match call.body(content.as_bytes().to_vec().into()).send().await {
            Ok(written) => Ok(written.e_tag.unwrap_or_default()),
            Err(error) => Err(refused(&error)),
        }
    };
    let outcome = |answer: &Result<String, String>| match answer {
        Ok(_) => "written".to_owned(),
        Err(code) => code.clone(),
    };
    let first = put("state", "1", (Some("*"), None)).await;
    seen.note("a write where there is nothing, if there is nothing", outcome(&first));
    seen.note("an entity tag is the MD5 in quotes", first.clone().unwrap_or_default());
    let second = put("state", "2", (Some("*"), None)).await;
    seen.note("a write where there is something, if there is nothing", outcome(&second));
    let tag = first.unwrap_or_default();
    let third = put("state", "3", (None, Some(&tag))).await;
    seen.note("a write if the tag is still the same", outcome(&third));
    let fourth = put("state", "4", (None, Some(&tag))).await;
    seen.note("a write if the tag is still the same, which it is not", outcome(&fourth));
    let fifth = put("nothing", "5", (None, Some(&tag))).await;
    seen.note("a write if the tag is the same, of nothing", outcome(&fifth));
    seen.note("what is read after that", get(world, PLAIN, "state", None).await);

    let call = world.s3.get_object().bucket(PLAIN).key("state").if_match(&tag);
    let read = call.send().await.map_or_else(|error| refused(&error), |_| "read".to_owned());
    seen.note("a read if the tag is another one", read);
    let call = world.s3.head_object().bucket(PLAIN).key("state").if_match(&tag);
    let asked = call.send().await.map_or_else(|error| refused(&error), |_| "there".to_owned());
    seen.note("a HEAD if the tag is another one", asked);
    seen.note("a read of nothing", get(world, PLAIN, "nothing", None).await);
    seen.note("a HEAD of nothing", head(world, PLAIN, "nothing", None).await);
    seen.note("a read in a bucket that is not there", get(world, "fidelity-gone", "a", None).await);

    for key in ODD_KEYS {
        put(key, key, (None, None)).await.expect("written");
        assert_eq!(get(world, PLAIN, key, None).await, key);
    }
    let mut keys = Vec::new();
    let mut token = None;
    loop {
        let call = world.s3.list_objects_v2().bucket(PLAIN).max_keys(2);
        let page = call.set_continuation_token(token).send().await.unwrap();
        keys.extend(page.contents().iter().filter_map(|object| object.key.clone()));
        token = page.next_continuation_token;
        if token.is_none() {
            break;
        }
    }
    seen.note("a listing of odd keys, two to a page", keys.join(" | "));
    let call = world.s3.list_objects_v2().bucket(PLAIN).prefix("a/").start_after("a/b%2Bc.json");
    let after = call.send().await.unwrap();
    seen.note("a listing after the last key of a prefix", after.contents().len().to_string());
}

pub(crate) async fn versions(world: &World, seen: &mut Seen) {
    let ids = world.writes_versions("k", &[b"1", b"2"]).await;
    seen.note("the current version", get(world, VERSIONED, "k", None).await);
    seen.note("an older version", get(world, VERSIONED, "k", Some(&ids[0])).await);
    let marker = world.deletes("k").await;
    seen.note("a read of what was deleted", get(world, VERSIONED, "k", None).await);
    seen.note("a HEAD of what was deleted", head(world, VERSIONED, "k", None).await);
    let older = get(world, VERSIONED, "k", Some(&ids[1])).await;
    seen.note("a version of what was deleted", older);
    seen.note("a read of the marker", get(world, VERSIONED, "k", Some(&marker)).await);
    seen.note("a HEAD of the marker", head(world, VERSIONED, "k", Some(&marker)).await);

    world.writes_versions("k", &[b"3"]).await;
    world.writes_versions("a b", &[b"4"]).await;
    let mut listed = Vec::new();
    let (mut key, mut version) = (None, None);
    loop {
        let call = world.s3.list_object_versions().bucket(VERSIONED).max_keys(2);
        let call = call.set_key_marker(key).set_version_id_marker(version);
        let page = call.send().await.unwrap();
        let versions = page.versions().iter().map(|version| {
            (version.key.clone().unwrap_or_default(), version.size.unwrap_or_default().to_string())
        });
        let markers = page
            .delete_markers()
            .iter()
            .map(|marker| (marker.key.clone().unwrap_or_default(), "deleted".to_owned()));
        // A page gives versions and markers apart, so their order is known from page to page only.
        let mut of_page: Vec<_> = versions.chain(markers).collect();
        of_page.sort();
        listed.push(format!("{of_page:?}"));
        (key, version) = (page.next_key_marker, page.next_version_id_marker);
        if key.is_none() {
            break;
        }
    }
    seen.note("a listing of versions, two to a page", listed.join(" then "));

    let call = world.s3.list_object_versions().bucket(VERSIONED).prefix("a");
    let page = call.encoding_type(EncodingType::Url).send().await.unwrap();
    let key = page.versions()[0].key.clone().unwrap_or_default();
    seen.note("a key with a space in an encoded listing", key);
}
