# Belong to one account: put your own Region and the VPC for the instances here.
region = "us-east-1"
vpc_id = "vpc-0e906eb9a1c35ab3a"
