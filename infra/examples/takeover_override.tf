# For the apply that takes over the Python system: leaves the trust policies of its roles as they are.
# Copy this file into module/, and delete it after that apply; the next one narrows them. See IMPORT.md.
resource "aws_iam_role" "capacity_provider_operator" {
  lifecycle {
    ignore_changes = [assume_role_policy]
  }
}

resource "aws_iam_role" "lambda_role" {
  lifecycle {
    ignore_changes = [assume_role_policy, name]
  }
}
