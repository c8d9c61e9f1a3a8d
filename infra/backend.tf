# Belongs to one account: put the name of your own bucket here (it must exist, and should have versioning on).
terraform {
  backend "s3" {
    bucket       = "demo-bucket-448479419844-us-east-1-cds3fac1gkujufq"
    key          = "fibonacci-lambda/terraform.tfstate"
    region       = "us-east-1"
    encrypt      = true
    use_lockfile = true
  }
}
