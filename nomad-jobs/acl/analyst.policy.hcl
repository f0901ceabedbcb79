# Someone who starts runs with `nomad job dispatch` and reads their logs.
#   nomad acl policy apply drover-analyst analyst.policy.hcl
namespace "default" {
  capabilities = ["list-jobs", "read-job", "dispatch-job", "read-logs"]
}
