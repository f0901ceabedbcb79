# Warm workers of one vertical: service job <prefix>-workers-<vertical>, group "workers".
#
# The dispatcher registers it for each vertical whose capacity is hybrid or warm, and keeps the count that it finds; what it
# sets is in docs/NOMAD.md. By hand:
#   nomad job run -var vertical=python -var driver=raw_exec -var command=/usr/local/bin/drover-worker -var count=1 workers.nomad.hcl
#   nomad job scale drover-workers-python workers 3

variable "vertical" {
  type = string
}

# Default: drover-workers-<vertical>.
variable "job_id" {
  type    = string
  default = ""
}

variable "namespace" {
  type    = string
  default = "default"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  type    = string
  default = "default"
}

variable "priority" {
  type    = number
  default = 50
}

variable "driver" {
  type    = string
  default = "docker"
  validation {
    condition     = var.driver == "docker" || var.driver == "raw_exec"
    error_message = "The driver must be docker or raw_exec."
  }
}

variable "image" {
  type    = string
  default = ""
}

variable "command" {
  type    = string
  default = "/usr/local/bin/drover-worker"
}

variable "env" {
  type    = map(string)
  default = {}
}

# Runs that one worker executes at the same time, as far as their declared cpu and memory fit into its own.
variable "slots" {
  type    = number
  default = 5
}

# MHz; the dispatcher writes 1000m of a vertical as 1000.
variable "cpu" {
  type    = number
  default = 2000
}

# MiB
variable "memory" {
  type    = number
  default = 2048
}

# 0: no oversubscription
variable "memory_max" {
  type    = number
  default = 0
}

# MiB of ephemeral disk; without a cache volume the cache is in there.
variable "disk" {
  type    = number
  default = 300
}

# Of the first registration alone: the dispatcher and `nomad job run -preserve-counts` keep the count that Nomad has.
variable "count" {
  type    = number
  default = 0
}

variable "min" {
  type    = number
  default = 0
}

variable "max" {
  type    = number
  default = 20
}

# What the autoscaler goes by: drover, target-value or pass-through (docs/SCALING.md).
variable "strategy" {
  type    = string
  default = "drover"
  validation {
    condition     = contains(["drover", "target-value", "pass-through"], var.strategy)
    error_message = "The strategy must be drover, target-value or pass-through."
  }
}

# Strategy target-value: queued and running runs per worker.
variable "target" {
  type    = number
  default = 10
}

# Strategy drover: seconds in which a backlog is to be worked off.
variable "drain_s" {
  type    = number
  default = 60
}

# How long a run takes, while none has ended yet.
variable "service" {
  type    = string
  default = "30s"
}

# Dead band, as a share of the count; negative: the strategy's own default.
variable "threshold" {
  type    = number
  default = -1
}

# Largest steps; 0: none.
variable "max_scale_up" {
  type    = number
  default = 0
}

variable "max_scale_down" {
  type    = number
  default = 0
}

# After any change, before the group shrinks.
variable "cooldown" {
  type    = string
  default = "0s"
}

# Between two scale-ups.
variable "cooldown_on_scale_up" {
  type    = string
  default = "0s"
}

# The group grows only when it was too small for so long.
variable "stabilization_up" {
  type    = string
  default = "0s"
}

# The group shrinks only when it was too large for so long.
variable "stabilization_down" {
  type    = string
  default = "60s"
}

# At the latest; a change of the queue is seen at once.
variable "evaluation_interval" {
  type    = string
  default = "10s"
}

# Figures of the queue that are older change nothing.
variable "stale_after" {
  type    = string
  default = "15s"
}

# A count that somebody else has set is left alone for so long.
variable "foreign_hold" {
  type    = string
  default = "2m"
}

# After so many failed starts in a row scaling up pauses.
variable "start_failures" {
  type    = number
  default = 3
}

variable "start_pause" {
  type    = string
  default = "1m"
}

# The client caps this at its max_kill_timeout (30s unless raised). Keep it 10 s above the worker's DRAIN_TIMEOUT.
variable "kill_timeout" {
  type    = string
  default = "25s"
}

# Docker only: a Nomad host volume for the cache.
variable "cache_volume" {
  type    = string
  default = ""
}

# Docker only: network mode, such as host; default is docker's own.
variable "docker_network" {
  type    = string
  default = ""
}

# Where workers show their health: "consul", "nomad", or "" nowhere.
variable "service_provider" {
  type    = string
  default = "consul"
  validation {
    condition     = contains(["consul", "nomad", ""], var.service_provider)
    error_message = "The service provider must be consul, nomad or empty."
  }
}

# For clusters whose tasks may not use the task API: a Nomad variable that a template turns into environment.
variable "secrets_template" {
  type    = string
  default = ""
}

# Of the dispatcher: digest of this file and all its settings, the same without what Nomad changes in place, and the ledger
# that the job belongs to.
variable "digest" {
  type    = string
  default = ""
}

variable "spec" {
  type    = string
  default = ""
}

variable "ledger" {
  type    = string
  default = ""
}

locals {
  job_id    = var.job_id != "" ? var.job_id : "drover-workers-${var.vertical}"
  is_docker = var.driver == "docker"
  threshold = var.threshold >= 0 ? var.threshold : var.strategy == "drover" ? 0.1 : var.strategy == "target-value" ? 0.01 : 0
  volumes   = local.is_docker && var.cache_volume != "" ? [var.cache_volume] : []
  # A strategy's own keys, and those that all of them take.
  own = {
    "drover"       = { drain_s = var.drain_s, service_s = var.service }
    "target-value" = { target = var.target }
    "pass-through" = {}
  }
  steps = {
    slots          = var.slots
    threshold      = local.threshold
    max_scale_up   = var.max_scale_up
    max_scale_down = var.max_scale_down
  }
  env = {
    WORKER_VERTICAL           = var.vertical
    MAX_CONCURRENT_ACTIVITIES = "${var.slots}"
    WORKER_HEALTH_LISTEN      = local.is_docker ? "0.0.0.0:$${NOMAD_PORT_health}" : "$${NOMAD_ADDR_health}"
  }
}

job "drover-workers" {
  # A block label cannot be interpolated; id and name can.
  id          = local.job_id
  name        = local.job_id
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  # A change of any meta would replace every allocation.
  meta {
    drover_vertical = var.vertical
    drover_ledger   = var.ledger
  }

  # No deployments: a scale is never refused. A change that Nomad does not make in place hits all allocations at once, so the
  # dispatcher lets them finish before it registers one.
  update {
    max_parallel = 0
  }

  group "workers" {
    count = var.count

    # The check's source keeps other autoscalers away. Its strategy is written as Nomad reads a block, because a block's label cannot
    # be interpolated.
    scaling {
      enabled = true
      min     = var.min
      max     = var.max
      policy {
        digest               = var.digest
        spec                 = var.spec
        evaluation_interval  = var.evaluation_interval
        stabilization_up     = var.stabilization_up
        stabilization_down   = var.stabilization_down
        cooldown             = var.cooldown
        cooldown_on_scale_up = var.cooldown_on_scale_up
        stale_after          = var.stale_after
        foreign_hold         = var.foreign_hold
        start_failures       = var.start_failures
        start_pause          = var.start_pause
        check "queue" {
          source   = "drover"
          query    = var.vertical
          strategy = [{ (var.strategy) = [merge(local.own[var.strategy], local.steps)] }]
        }
      }
    }

    # Runs are retried by the dispatcher; this only brings the worker back.
    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    reschedule {
      delay          = "5s"
      delay_function = "exponential"
      max_delay      = "5m"
      unlimited      = true
    }

    ephemeral_disk {
      size = var.disk
    }

    network {
      port "health" {}
    }

    dynamic "volume" {
      for_each = local.volumes
      labels   = ["cache"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    # Passing while the worker takes runs; else its answer says why it does not.
    dynamic "service" {
      for_each = var.service_provider == "" ? [] : [var.service_provider]
      content {
        name     = "drover-worker"
        provider = service.value
        port     = "health"
        tags     = [var.vertical]
        check {
          type     = "http"
          path     = "/v1/agent/health"
          interval = "5s"
          timeout  = "2s"
        }
      }
    }

    task "worker" {
      driver       = var.driver
      user         = local.is_docker ? "65534:65534" : ""
      kill_signal  = "SIGTERM"
      kill_timeout = var.kill_timeout
      env          = merge(local.env, var.env)

      dynamic "config" {
        for_each = local.is_docker ? [1] : []
        content {
          image           = var.image
          entrypoint      = [var.command]
          network_mode    = var.docker_network != "" ? var.docker_network : null
          ports           = ["health"]
          init            = true
          readonly_rootfs = true
          cap_drop        = ["all"]
          security_opt    = ["no-new-privileges"]
          pids_limit      = 4096
          mount {
            type   = "tmpfs"
            target = "/tmp"
            tmpfs_options {
              size = 268435456
            }
          }
        }
      }

      dynamic "config" {
        for_each = var.driver == "raw_exec" ? [1] : []
        content {
          command = var.command
        }
      }

      dynamic "volume_mount" {
        for_each = local.volumes
        content {
          volume      = "cache"
          destination = "/var/cache/drover"
        }
      }

      dynamic "template" {
        for_each = var.secrets_template == "" ? [] : [var.secrets_template]
        content {
          destination = "$${NOMAD_SECRETS_DIR}/drover.env"
          env         = true
          change_mode = "noop"
          perms       = "0600"
          data        = <<-EOT
          {{ with nomadVar "${template.value}" }}
          DROVER_TOKEN={{ .DROVER_TOKEN }}
          S3_ACCESS_KEY={{ .S3_ACCESS_KEY }}
          S3_SECRET_KEY={{ .S3_SECRET_KEY }}
          {{ end }}
          EOT
        }
      }

      # Makes the task API usable: the worker reads its secrets from the Nomad variable nomad/jobs/<job id> there.
      identity {
        env = true
      }

      resources {
        cpu        = var.cpu
        memory     = var.memory
        memory_max = var.memory_max > 0 ? var.memory_max : null
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }
    }
  }
}
