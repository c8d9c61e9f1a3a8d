# plantimestamp() counts in seconds, and without this two runs would have the same time.
resource "terraform_data" "next_second" {
  provisioner "local-exec" {
    command = "sleep 1"
  }
}
