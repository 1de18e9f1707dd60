from shoe_classifier.commands import app

if __name__ == "__main__":
    app()
