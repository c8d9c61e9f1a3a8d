# plantimestamp() has a resolution of one second: without this, two runs would have the same time.
resource "terraform_data" "next_second" {
  triggers_replace = uuid() # in every run

  provisioner "local-exec" {
    command = "sleep 1"
  }
}
