//! Who may do what: nothing public, nothing for other accounts, no more than is needed, and all of
//! it encrypted at rest.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::template::{
    Break, Deployed, assert_each_is_found, deployments, list, processed, resource, target, text,
};

/// Actions that AWS lets nobody narrow to a resource, and why a role of the template has them.
const WITHOUT_RESOURCE: [(&str, &str); 8] = [
    ("logs:CreateLogDelivery", LOG_DELIVERY),
    ("logs:DeleteLogDelivery", LOG_DELIVERY),
    ("logs:DescribeLogGroups", LOG_DELIVERY),
    ("logs:DescribeResourcePolicies", LOG_DELIVERY),
    ("logs:GetLogDelivery", LOG_DELIVERY),
    ("logs:ListLogDeliveries", LOG_DELIVERY),
    ("logs:PutResourcePolicy", LOG_DELIVERY),
    ("logs:UpdateLogDelivery", LOG_DELIVERY),
];
/// <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy>
const LOG_DELIVERY: &str = "the logging of a state machine";

/// Services whose calls to `sts:AssumeRole` do not name the account they are for. Their guides
/// document no `aws:SourceAccount` for such roles; a role can be passed to a service by this account
/// only, with `iam:PassRole`.
const TRUSTED_WITHOUT_ACCOUNT: [&str; 3] =
    ["apigateway.amazonaws.com", "glue.amazonaws.com", "lambda.amazonaws.com"];

/// What a service may use without saying for which account, and why.
const USED_FOR_ANY_ACCOUNT: [(&str, &str, &str); 2] = [
    ("GuardTopic", "events.amazonaws.com", NO_CONDITION),
    ("GuardKey", "events.amazonaws.com", NO_CONDITION),
];
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html>
const NO_CONDITION: &str = "no condition holds for what EventBridge publishes to a topic";

/// What is not encrypted by a key or by the service's own setting, and why.
const UNENCRYPTED: [(&str, &str); 1] = [(
    "UploadTopic",
    "S3 may not use alias/aws/sns, so without KmsKeyArn only the disks of SNS are encrypted",
)];

/// What is wrong with the policies and the encryption, one sentence each.
pub(crate) fn findings(template: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for deployed in deployments(template) {
        let mut add = |finding: String| {
            found.insert(finding);
        };
        roles(&deployed, &mut add);
        resource_policies(&deployed, &mut add);
        permissions(&deployed, &mut add);
        storage(&deployed, &mut add);
        environments(&deployed, &mut add);
    }
    found
}

fn statements(document: &Value) -> &[Value] {
    list(&document["Statement"])
}

fn roles(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, role) in deployed.of_type("AWS::IAM::Role") {
        for statement in statements(&role["AssumeRolePolicyDocument"]) {
            for service in list(&statement["Principal"]["Service"]) {
                let service = text(service);
                let narrowed = names_account(statement);
                if !narrowed && !TRUSTED_WITHOUT_ACCOUNT.contains(&service.as_str()) {
                    add(format!("{name} trusts {service} on behalf of any account"));
                }
            }
            if statement["Principal"]["Service"].is_null() {
                add(format!("{name} trusts something that is no service"));
            }
        }
        for policy in list(&role["Policies"]) {
            grants(name, &policy["PolicyDocument"], add);
        }
        reach_of_the_key(name, role, add);
        if !list(&role["ManagedPolicyArns"]).is_empty() {
            add(format!("{name} has managed policies, which grant more than it needs"));
        }
    }
    for kind in ["AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"] {
        for (name, policy) in deployed.of_type(kind) {
            grants(name, &policy["PolicyDocument"], add);
        }
    }
}

/// With a customer key, these services call KMS as the caller and for the caller.
const ENCRYPTED_BY_KEY: [&str; 3] = ["dynamodb", "s3", "sqs"];

/// A role that may use the key only by way of some services must name each whose actions it has.
fn reach_of_the_key(name: &str, role: &Value, add: &mut impl FnMut(String)) {
    let policies = list(&role["Policies"]).iter();
    let all: Vec<&Value> =
        policies.flat_map(|policy| statements(&policy["PolicyDocument"])).collect();
    let actions = |statement: &&Value| list(&statement["Action"]).iter().map(text).collect();
    let uses_key = |statement: &&&Value| {
        let actions: Vec<String> = actions(statement);
        actions.iter().any(|action| action.starts_with("kms:"))
    };
    let Some(key) = all.iter().find(uses_key) else { return };
    let ways = key["Condition"]["StringEquals"]["kms:ViaService"].to_string();
    for service in ENCRYPTED_BY_KEY {
        let is_used = all.iter().any(|statement| {
            let actions: Vec<String> = actions(statement);
            actions.iter().any(|action| action.starts_with(&format!("{service}:")))
        });
        if is_used && !ways.contains(&format!("{service}.")) {
            add(format!("{name} may not use the key by way of {service}"));
        }
    }
}

fn grants(name: &str, document: &Value, add: &mut impl FnMut(String)) {
    for statement in statements(document) {
        let everywhere = list(&statement["Resource"]).contains(&json!("*"));
        for action in list(&statement["Action"]) {
            let action = text(action);
            if action.contains('*') {
                add(format!("{name} may {action}"));
            }
            let known = WITHOUT_RESOURCE.iter().any(|(known, _)| *known == action);
            if everywhere && !known {
                add(format!("{name} may {action} on everything"));
            }
        }
        for key in ["NotAction", "NotResource"] {
            if !statement[key].is_null() {
                add(format!("{name} grants all but something, with {key}"));
            }
        }
    }
}

/// Whether a condition says for which account, or for which resource of which account, a service
/// acts. The ARN of a bucket names no account.
fn names_account(statement: &Value) -> bool {
    let conditions = statement["Condition"].as_object();
    conditions.into_iter().flatten().any(|(_, keys)| {
        keys.get("aws:SourceAccount")
            .is_some_and(|value| *value == json!({"Ref": "AWS::AccountId"}))
            || keys.get("aws:SourceArn").is_some_and(|value| !is_bucket_arn(value))
    })
}

fn is_bucket_arn(value: &Value) -> bool {
    value.to_string().contains(":s3:::") || target(value).is_some_and(|id| id.ends_with("Bucket"))
}

/// Resource types with a policy: the policy's type, its document, and the list of its resources.
const POLICIES: [(&str, &str, &str); 3] = [
    ("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "Queues"),
    ("AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "Topics"),
    ("AWS::S3::Bucket", "AWS::S3::BucketPolicy", "Bucket"),
];

fn resource_policies(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (kind, policy_kind, targets) in POLICIES {
        for (name, _) in deployed.of_type(kind) {
            let of_this = deployed.of_type(policy_kind).filter(|(_, policy)| {
                list(&policy[targets]).iter().any(|one| target(one) == Some(name))
            });
            let all: Vec<&Value> =
                of_this.flat_map(|(_, policy)| statements(&policy["PolicyDocument"])).collect();
            if !all.iter().any(|statement| denies_plain_http(statement)) {
                add(format!("{name} may be used without TLS"));
            }
            if !all.iter().any(|statement| denies_other_accounts(statement)) {
                add(format!("{name} may be used by other accounts"));
            }
            for statement in all {
                allowed(name, statement, add);
            }
        }
    }
    for (name, key) in deployed.of_type("AWS::KMS::Key") {
        for statement in statements(&key["KeyPolicy"]) {
            allowed(name, statement, add);
        }
    }
}

fn allowed(name: &str, statement: &Value, add: &mut impl FnMut(String)) {
    if statement["Effect"] != "Allow" {
        return;
    }
    let principal = &statement["Principal"];
    if *principal == json!("*") || list(&principal["AWS"]).contains(&json!("*")) {
        add(format!("{name} is public"));
    }
    for service in list(&principal["Service"]).iter().map(text) {
        let known = USED_FOR_ANY_ACCOUNT.iter().any(|(it, by, _)| (*it, *by) == (name, &service));
        if !names_account(statement) && !known {
            add(format!("{name} lets {service} act for any account"));
        }
    }
}

fn denies_everyone(statement: &Value) -> bool {
    statement["Effect"] == "Deny" && statement["Principal"] == "*"
}

fn denies_plain_http(statement: &Value) -> bool {
    denies_everyone(statement) && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"
}

/// Denied if the caller is of another account, except to services, which act for an account that an
/// allowing statement names. An anonymous caller has neither key: the first operator holds then,
/// and of the second it is the `IfExists`.
fn denies_other_accounts(statement: &Value) -> bool {
    let condition = &statement["Condition"];
    denies_everyone(statement)
        && condition["StringNotEquals"]["aws:PrincipalAccount"] == json!({"Ref": "AWS::AccountId"})
        && condition["BoolIfExists"]["aws:PrincipalIsAWSService"] == "false"
}

fn permissions(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, permission) in deployed.of_type("AWS::Lambda::Permission") {
        let principal = text(&permission["Principal"]);
        let arn = &permission["SourceArn"];
        let narrowed = permission["SourceAccount"] == json!({"Ref": "AWS::AccountId"})
            || (!arn.is_null() && !is_bucket_arn(arn));
        if !narrowed {
            add(format!("{name} lets {principal} act for any account"));
        }
        if arn.is_null() {
            add(format!("{name} lets any resource of {principal} invoke"));
        }
    }
}

fn storage(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, topic) in deployed.of_type("AWS::SNS::Topic") {
        let exempt = UNENCRYPTED.iter().any(|(known, _)| *known == name);
        if topic["KmsMasterKeyId"].is_null() && !exempt {
            add(format!("{name} is not encrypted"));
        }
    }
    for (name, queue) in deployed.of_type("AWS::SQS::Queue") {
        let managed = text(&queue["SqsManagedSseEnabled"]) == "true";
        if !managed && queue["KmsMasterKeyId"].is_null() {
            add(format!("{name} is not encrypted"));
        }
    }
    for (name, bucket) in deployed.of_type("AWS::S3::Bucket") {
        let rule = &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0];
        if rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"].is_null() {
            add(format!("{name} is not encrypted"));
        }
        for block in
            ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"]
        {
            if text(&bucket["PublicAccessBlockConfiguration"][block]) != "true" {
                add(format!("{name} may become public: {block}"));
            }
        }
        let ownership = &bucket["OwnershipControls"]["Rules"][0]["ObjectOwnership"];
        if *ownership != json!("BucketOwnerEnforced") || !bucket["AccessControl"].is_null() {
            add(format!("{name} obeys ACLs"));
        }
    }
}

fn environments(deployed: &Deployed, add: &mut impl FnMut(String)) {
    for (name, function) in deployed.of_type("AWS::Lambda::Function") {
        let variables = function["Environment"]["Variables"].as_object();
        for variable in variables.into_iter().flatten().map(|(variable, _)| variable) {
            let secret = ["SECRET", "PASSWORD", "TOKEN", "CREDENTIAL", "API_KEY"];
            if secret.iter().any(|word| variable.contains(word)) {
                add(format!("{name} has a secret in {variable}"));
            }
        }
    }
}

#[tokio::test]
async fn the_template_grants_no_more_than_is_needed() {
    let found = findings(&processed().await);
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test]
async fn every_exception_for_a_resource_is_used() {
    let template = processed().await.to_string();
    for (action, reason) in WITHOUT_RESOURCE {
        assert!(template.contains(action), "{action} ({reason}) is granted to nobody");
    }
}

fn policy<'t>(template: &'t mut Value, name: &str, sid: &str) -> &'t mut Value {
    let document = &mut resource(template, name)["PolicyDocument"];
    let statements = document["Statement"].as_array_mut().unwrap();
    statements.iter_mut().find(|statement| statement["Sid"] == sid).expect("a statement")
}

fn grant<'t>(template: &'t mut Value, role: &str) -> &'t mut Value {
    &mut resource(template, role)["Policies"][0]["PolicyDocument"]["Statement"][0]
}

const BREAKS: [Break; 21] = [
    (
        |t| {
            let policies = &mut resource(t, "DeviceStateMachineRole")["Policies"];
            let narrowed = policies.to_string().replace("dynamodb.", "elsewhere.");
            *policies = serde_json::from_str(&narrowed).unwrap();
        },
        "DeviceStateMachineRole may not use the key by way of dynamodb",
    ),
    (
        |t| grant(t, "ConsumerRole")["Resource"] = json!("*"),
        "ConsumerRole may sqs:ReceiveMessage on everything",
    ),
    (|t| grant(t, "ForwarderRole")["Action"] = json!("sqs:*"), "ForwarderRole may sqs:*"),
    (
        |t| {
            let statement = grant(t, "RedriveRole").as_object_mut().unwrap();
            let action = statement.remove("Action").unwrap();
            statement.insert("NotAction".to_owned(), action);
        },
        "RedriveRole grants all but something, with NotAction",
    ),
    (
        |t| {
            let arn = "arn:aws:iam::aws:policy/AmazonSQSFullAccess";
            resource(t, "ForwarderRole")["ManagedPolicyArns"] = json!([arn]);
        },
        "ForwarderRole has managed policies, which grant more than it needs",
    ),
    (
        |t| {
            let trust = &mut resource(t, "DeviceStateMachineRole")["AssumeRolePolicyDocument"];
            trust["Statement"][0].as_object_mut().unwrap().remove("Condition");
        },
        "DeviceStateMachineRole trusts states.amazonaws.com on behalf of any account",
    ),
    (
        |t| {
            let trust = &mut resource(t, "ForwarderRole")["AssumeRolePolicyDocument"];
            trust["Statement"][0]["Principal"] = json!({"AWS": "*"});
        },
        "ForwarderRole trusts something that is no service",
    ),
    (
        |t| policy(t, "WorkQueuePolicy", "OnlyOverTls")["Effect"] = json!("Allow"),
        "WorkQueue may be used without TLS",
    ),
    (
        |t| policy(t, "WorkQueuePolicy", "OnlyOverTls")["Effect"] = json!("Allow"),
        "WorkQueue is public",
    ),
    (
        |t| policy(t, "ArchiveBucketPolicy", "OnlyOverTls")["Condition"] = json!({}),
        "ArchiveBucket may be used without TLS",
    ),
    (
        |t| {
            let condition = &mut policy(t, "ArchiveBucketPolicy", "OnlyThisAccount")["Condition"];
            *condition = json!({"StringNotEquals": {"aws:PrincipalAccount": "111122223333"}});
        },
        "ArchiveBucket may be used by other accounts",
    ),
    (
        |t| {
            t["Resources"].as_object_mut().unwrap().remove("DeadLetterQueuePolicy");
        },
        "DeadLetterQueue may be used by other accounts",
    ),
    (
        |t| policy(t, "AlarmTopicPolicy", "Alarms")["Condition"] = json!({}),
        "AlarmTopic lets cloudwatch.amazonaws.com act for any account",
    ),
    (
        |t| resource(t, "AlarmKey")["KeyPolicy"]["Statement"][1]["Condition"] = json!({}),
        "AlarmKey lets cloudwatch.amazonaws.com act for any account",
    ),
    (
        |t| {
            policy(t, "DeadLetterQueuePolicy", "EventsOfFailureAndUndeliveredOnes")["Condition"] = json!({
                "ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["UploadBucket", "Arn"]}}
            });
        },
        "DeadLetterQueue lets events.amazonaws.com act for any account",
    ),
    (
        |t| {
            resource(t, "ForwarderPermission").as_object_mut().unwrap().remove("SourceAccount");
        },
        "ForwarderPermission lets s3.amazonaws.com act for any account",
    ),
    (
        |t| {
            resource(t, "RedrivePermission").as_object_mut().unwrap().remove("SourceArn");
        },
        "RedrivePermission lets any resource of events.amazonaws.com invoke",
    ),
    (
        |t| {
            resource(t, "AlarmTopic").as_object_mut().unwrap().remove("KmsMasterKeyId");
        },
        "AlarmTopic is not encrypted",
    ),
    (
        |t| {
            let block = &mut resource(t, "UploadBucket")["PublicAccessBlockConfiguration"];
            block["RestrictPublicBuckets"] = json!(false);
        },
        "UploadBucket may become public: RestrictPublicBuckets",
    ),
    (
        |t| resource(t, "UploadBucket")["AccessControl"] = json!("PublicRead"),
        "UploadBucket obeys ACLs",
    ),
    (
        |t| {
            let variables = &mut resource(t, "ConsumerFunction")["Environment"]["Variables"];
            variables["API_TOKEN"] = json!("hunter2");
        },
        "ConsumerFunction has a secret in API_TOKEN",
    ),
];

#[tokio::test]
async fn each_broken_rule_is_found() {
    assert_each_is_found(&BREAKS, findings).await;
}
