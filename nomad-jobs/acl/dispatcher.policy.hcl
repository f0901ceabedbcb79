# What drover-dispatcher does in its namespace: register and purge its parameterized jobs, dispatch, list, follow events.
#   nomad acl policy apply -namespace default -job drover-dispatcher drover-dispatcher dispatcher.policy.hcl
# or, for a dispatcher outside Nomad, without -namespace and -job, and then a token:
#   nomad acl token create -name drover-dispatcher -policy drover-dispatcher
namespace "default" {
  capabilities = ["list-jobs", "parse-job", "read-job", "submit-job", "dispatch-job"]
}

# Not needed, but good: what is too large for every node is then told from what waits for a busy one.
node {
  policy = "read"
}
