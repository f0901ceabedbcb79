# drover-autoscale as a Nomad service: two instances, of which the one that holds the lock acts.
#
#   nomad job run -var image=drover/dispatcher:0.1.0 autoscale.nomad.hcl
#
# Before: a dispatcher that registers in Consul (or -var dispatcher=http://host:8700); if it has tokens, one with scope
# manage as DROVER_TOKEN in the variable nomad/jobs/drover-autoscale and -var secrets=true; with ACLs on, the policy
# acl/autoscale.policy.hcl. docs/SCALING.md tells each step.

variable "namespace" {
  type    = string
  default = "default"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
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
  default = "/usr/local/bin/drover-autoscale"
}

variable "instances" {
  type    = number
  default = 2
}

# http(s)://host:port, consul://SERVICE or nomad://SERVICE.
variable "dispatcher" {
  type    = string
  default = "consul://drover-dispatcher"
}

# Whether nomad/jobs/drover-autoscale holds DROVER_TOKEN, and AUTOSCALE_TOKEN for whoever reads metrics and decisions.
variable "secrets" {
  type    = bool
  default = false
}

variable "consul_addr" {
  type    = string
  default = ""
}

# More settings; docs/CONFIG.md lists them.
variable "env" {
  type    = map(string)
  default = {}
}

variable "cpu" {
  type    = number
  default = 100
}

variable "memory" {
  type    = number
  default = 64
}

# "consul" or "nomad": where the service is registered.
variable "service_provider" {
  type    = string
  default = "consul"
}

locals {
  is_docker = var.driver == "docker"
  settings = {
    DROVER_ADDR            = var.dispatcher
    DROVER_CONSUL_REGISTER = "false" # the service block below does it
    NOMAD_NAMESPACE        = var.namespace
    CONSUL_HTTP_ADDR       = var.consul_addr
  }
}

job "drover-autoscale" {
  type        = "service"
  namespace   = var.namespace
  datacenters = var.datacenters
  priority    = 75

  group "autoscale" {
    count = var.instances

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    network {
      mode = "host"
      port "http" {}
    }

    service {
      name     = "drover-autoscale"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/v1/agent/health"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "autoscale" {
      driver       = var.driver
      user         = local.is_docker ? "65534:65534" : ""
      kill_signal  = "SIGTERM"
      kill_timeout = "10s"
      env = merge(local.settings, {
        # The task's own door to Nomad: no address, no TLS files, no token to hand out.
        NOMAD_ADDR       = "unix://$${NOMAD_SECRETS_DIR}/api.sock"
        AUTOSCALE_LISTEN = "0.0.0.0:$${NOMAD_PORT_http}"
      }, var.env)

      dynamic "config" {
        for_each = local.is_docker ? [1] : []
        content {
          image           = var.image
          entrypoint      = [var.command]
          network_mode    = "host"
          init            = true
          readonly_rootfs = true
          cap_drop        = ["all"]
          security_opt    = ["no-new-privileges"]
          pids_limit      = 64
        }
      }

      dynamic "config" {
        for_each = var.driver == "raw_exec" ? [1] : []
        content {
          command = var.command
        }
      }

      dynamic "template" {
        for_each = var.secrets ? [1] : []
        content {
          destination = "$${NOMAD_SECRETS_DIR}/drover.env"
          env         = true
          perms       = "0600"
          change_mode = "restart"
          data        = <<-EOT
          {{ with nomadVar "nomad/jobs/drover-autoscale" }}
          DROVER_TOKEN={{ .DROVER_TOKEN }}
          {{ with .AUTOSCALE_TOKEN }}AUTOSCALE_TOKEN={{ . }}{{ end }}
          {{ end }}
          EOT
        }
      }

      # NOMAD_TOKEN; its rights are those of the policy that is attached to this job.
      identity {
        env = true
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }
    }
  }
}
