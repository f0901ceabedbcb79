# What drover-autoscale does in its namespace: find the worker groups, read them, set their counts, keep its lock.
#   nomad acl policy apply -namespace default -job drover-autoscale drover-autoscale autoscale.policy.hcl
# or, for an autoscaler outside Nomad, without -namespace and -job, and then a token:
#   nomad acl token create -name drover-autoscale -policy drover-autoscale
namespace "default" {
  capabilities = ["list-jobs", "read-job", "scale-job"]

  variables {
    path "drover/autoscale" {
      capabilities = ["read", "write"]
    }
  }
}

# Not needed, but good: a node drain is then seen as soon as it begins, and nothing is scaled in under it.
node {
  policy = "read"
}
