# The scaling block for Nomad's own autoscaler: put it into the worker group's job in place of the one with source "drover" (then
# drover-autoscale leaves the group alone). Replace "python" by the vertical.
#
# drover_scale_workers_needed is the number of workers that what is ready and running would fill, less what one-shots are about to take;
# it is there at 0 workers, too, so scaling from zero works.

scaling {
  enabled = true
  min     = 0
  max     = 20

  policy {
    cooldown             = "15s" # the workers' DRAIN_TIMEOUT: the next one goes when the last one's runs have ended or are handed back
    cooldown_on_scale_up = "5s"
    evaluation_interval  = "5s"

    check "queue" {
      source       = "prometheus"
      query        = "drover_scale_workers_needed{vertical=\"python\"}"
      query_window = "instant"

      strategy "pass-through" {
        max_scale_down = 1 # one worker at a time hands its runs back
      }
    }
  }
}
