"""What the xgboost source is made of; imports XGBoost."""
