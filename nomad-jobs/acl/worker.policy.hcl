# Workers read their own job's variable (nomad/jobs/<job id>) by their workload identity, without any policy. This one is for
# clusters that keep the secrets of all workers in one variable; attach it to each job:
#   nomad acl policy apply -namespace default -job drover-run-python drover-worker-python worker.policy.hcl
# and tell the workers: DROVER_SECRETS_PATH=drover/worker in WORKER_ENV_FILE.
namespace "default" {
  variables {
    path "drover/worker" {
      capabilities = ["read"]
    }
  }
}
