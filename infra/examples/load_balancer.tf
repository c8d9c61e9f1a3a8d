# A target group for an Application Load Balancer. Forward to it from a rule of your listener.
resource "aws_lb_target_group" "fibonacci" {
  name        = replace(module.fibonacci.lambda_function_name, "_", "-")
  target_type = "lambda"
  # Multi-value headers stay off: the function does not support them.
}

resource "aws_lambda_permission" "load_balancer" {
  action        = "lambda:InvokeFunction"
  function_name = module.fibonacci.lambda_function_name
  principal     = "elasticloadbalancing.amazonaws.com"
  source_arn    = aws_lb_target_group.fibonacci.arn

  lifecycle {
    replace_triggered_by = [terraform_data.load_balancer]
  }
}

resource "aws_lb_target_group_attachment" "fibonacci" {
  target_group_arn = aws_lb_target_group.fibonacci.arn
  target_id        = module.fibonacci.lambda_function_arn

  depends_on = [aws_lambda_permission.load_balancer]
}

output "target_group_arn" {
  description = "ARN of the target group."
  value       = aws_lb_target_group.fibonacci.arn
}

# A function that is replaced loses what refers to it here.
resource "terraform_data" "load_balancer" {
  input = module.fibonacci.lambda_function_arn
}
