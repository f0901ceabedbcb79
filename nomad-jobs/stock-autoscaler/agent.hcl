# Nomad's own autoscaler (0.5.0) for Drover's worker groups, for those who prefer it to drover-autoscale.
#
#   nomad-autoscaler agent -config agent.hcl
#
# It asks the dispatcher as if that were a Prometheus server: of /api/v1/query(_range) the dispatcher answers the metrics
# drover_scale_NAME{vertical="V"}, which is all that scaling.hcl beside this file needs. A real Prometheus that scrapes the dispatcher's
# /metrics works as well. What it cannot do: it does not know which workers are at work. Those at the highest
# indexes are stopped; their runs are handed back within kill_timeout and start anew elsewhere.

nomad {
  address   = "http://127.0.0.1:4646"
  namespace = "default"
}

policy {
  default_evaluation_interval = "5s"
  default_cooldown            = "1m"
}

apm "prometheus" {
  driver = "prometheus"
  config = {
    address = "http://127.0.0.1:8700"

    # Where the dispatcher has tokens: one with scope read as the password, any name.
    # basic_auth_user     = "autoscaler"
    # basic_auth_password = "drover_…"
  }
}

strategy "pass-through" {
  driver = "pass-through"
}

strategy "target-value" {
  driver = "target-value"
}
