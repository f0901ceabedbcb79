# One-shot runs of one vertical and class: parameterized batch job <prefix>-run-<vertical>[-large].
#
# The dispatcher registers it for each vertical of the toolbox; what it sets is in docs/NOMAD.md. By hand:
#   nomad job run -var vertical=python -var driver=raw_exec -var command=/usr/local/bin/drover-worker run.nomad.hcl
#   nomad job dispatch -meta workflow=security_assessment -meta target=ID drover-run-python

variable "vertical" {
  type = string
}

variable "class" {
  type    = string
  default = "normal"
  validation {
    condition     = var.class == "normal" || var.class == "large"
    error_message = "The class must be normal or large."
  }
}

# Empty: drover-run-<vertical>.
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

# MHz; the dispatcher writes thousandths of a core.
variable "cpu" {
  type    = number
  default = 500
}

variable "memory" {
  type    = number
  default = 512
}

# MB that the task may take when the node has it to spare; 0: no more than memory.
variable "memory_max" {
  type    = number
  default = 0
}

# MB for logs, and for the cache where there is no volume for it.
variable "disk" {
  type    = number
  default = 300
}

# A client caps this at its max_kill_timeout (30s unless raised).
variable "kill_timeout" {
  type    = string
  default = "25s"
}

# docker: host volume that all workers of a node share as their cache.
variable "cache_volume" {
  type    = string
  default = ""
}

# docker: network mode; empty: docker's default bridge.
variable "docker_network" {
  type    = string
  default = ""
}

# For clusters whose tasks may not use the task API: a Nomad variable that a template turns into environment.
variable "secrets_template" {
  type    = string
  default = ""
}

# Of the dispatcher: digest of this file and its settings, and the ledger that the job belongs to.
variable "digest" {
  type    = string
  default = ""
}

variable "ledger" {
  type    = string
  default = ""
}

locals {
  job_id    = var.job_id != "" ? var.job_id : "drover-run-${var.vertical}"
  is_docker = var.driver == "docker"
  volumes   = local.is_docker && var.cache_volume != "" ? [var.cache_volume] : []
}

job "drover-run" {
  # A block label cannot be interpolated; id and name can.
  id          = local.job_id
  name        = local.job_id
  type        = "batch"
  namespace   = var.namespace
  datacenters = var.datacenters
  node_pool   = var.node_pool
  priority    = var.priority

  meta {
    drover_vertical = var.vertical
    drover_class    = var.class
    drover_digest   = var.digest
    drover_ledger   = var.ledger
  }

  parameterized {
    payload       = "forbidden"
    meta_optional = ["request", "workflow", "target", "parameters"]
  }

  group "run" {
    # Retries belong to the dispatcher.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    # Node gone: the allocation becomes "unknown" and Nomad starts no second copy (without this block it does,
    # whatever reschedule says). The dispatcher stops the child and retries; a node that returns kills stopped children.
    disconnect {
      lost_after = "24h"
      replace    = false
      reconcile  = "keep_original"
    }

    ephemeral_disk {
      size = var.disk
    }

    dynamic "volume" {
      for_each = local.volumes
      labels   = ["cache"]
      content {
        type   = "host"
        source = volume.value
      }
    }

    task "worker" {
      driver       = var.driver
      user         = local.is_docker ? "65534:65534" : ""
      kill_signal  = "SIGTERM"
      kill_timeout = var.kill_timeout
      env          = var.env

      dynamic "config" {
        for_each = local.is_docker ? [1] : []
        content {
          image           = var.image
          entrypoint      = [var.command]
          args            = ["--once", "${NOMAD_META_request}"]
          network_mode    = var.docker_network != "" ? var.docker_network : null
          init            = true
          readonly_rootfs = true
          cap_drop        = ["all"]
          security_opt    = ["no-new-privileges"]
          pids_limit      = 1024
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
          args    = ["--once", "${NOMAD_META_request}"]
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
