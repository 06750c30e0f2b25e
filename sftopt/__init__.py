"""sftopt: planning split fine-tuning of large language models over wireless networks."""
