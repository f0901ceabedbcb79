# An operator of Drover: looks at everything it runs, stops and starts jobs, reads logs, keeps its secrets.
#   nomad acl policy apply drover-operator operator.policy.hcl
namespace "default" {
  capabilities = ["list-jobs", "parse-job", "read-job", "submit-job", "dispatch-job", "read-logs", "read-fs", "alloc-lifecycle"]

  variables {
    path "nomad/jobs/drover-*" {
      capabilities = ["list", "read", "write", "destroy"]
    }
  }
}

node {
  policy = "read"
}
